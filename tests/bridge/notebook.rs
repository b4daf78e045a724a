//! The notebook's cell, with stand-ins for cloudflared, ComfyUI and Colab's modules.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::eventually::eventually;
use crate::support::port::ReservedPort;
use crate::support::process::Process;

const CELL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/colab/cell.py");
const NOTEBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/colab/filmgate-comfyui.ipynb");
/// Two Pythons start, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Answers as cloudflared does on its metrics port: the name is what a file says.
const CLOUDFLARED: &str = r#"#!/usr/bin/env python3
import http.server, json, pathlib, sys
host, port = sys.argv[sys.argv.index("--metrics") + 1].split(":")
assert sys.argv[1] == "tunnel" and "--url" in sys.argv
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = pathlib.Path(__file__).with_name("name").read_text()
        self.send_response(200 if self.path == "/quicktunnel" else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"hostname": name}).encode())
http.server.HTTPServer((host, int(port)), Page).serve_forever()
"#;

const COMFYUI: &str = r#"
import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/system_stats" else 404)
        self.end_headers()
        self.wfile.write(b'{"devices": []}')
http.server.HTTPServer(("127.0.0.1", port), Page).serve_forever()
"#;

const USERDATA: &str = "
def get(name):
    return {'FILMGATE_BRIDGE_TOKEN': 'TOKEN\\n', 'FILMGATE_GIST_TOKEN': 'gist'}[name]
";

#[test]
fn the_notebook_is_the_cell() {
    let notebook: Value = serde_json::from_str(&fs::read_to_string(NOTEBOOK).unwrap()).unwrap();
    let cells = notebook["cells"].as_array().unwrap();
    assert_eq!((cells.len(), &cells[0]["cell_type"]), (1, &json!("code")));
    let lines = cells[0]["source"].as_array().unwrap().iter();
    let text: String = lines.map(|line| line.as_str().unwrap()).collect();
    let cell = fs::read_to_string(CELL).unwrap();
    assert!(text == cell.trim_end(), "write it anew by tools/notebook.py");
    assert_eq!(cells[0]["outputs"], json!([]));
}

type Requests = Arc<Mutex<Vec<(Method, String, String, Value)>>>;

/// Who is told. The first is turned away, and the second sent elsewhere.
async fn told(
    State(requests): State<Requests>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Json<Value>>,
) -> Response {
    let token = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let mut requests = requests.lock();
    requests.push((method, uri.path().to_owned(), token.to_owned(), body));
    match requests.len() {
        1 => (StatusCode::BAD_GATEWAY, "the name is not known yet").into_response(),
        2 => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        _ => Json(json!({"isChanged": true})).into_response(),
    }
}

fn lay_out(root: &Path) {
    fs::create_dir_all(root.join("ComfyUI")).unwrap();
    fs::write(root.join("ComfyUI/main.py"), COMFYUI).unwrap();
    fs::write(root.join("cloudflared"), CLOUDFLARED).unwrap();
    fs::set_permissions(root.join("cloudflared"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(root.join("modules/google/colab")).unwrap();
    fs::write(root.join("modules/google/__init__.py"), "").unwrap();
    fs::write(root.join("modules/google/colab/__init__.py"), "").unwrap();
    let userdata = USERDATA.replace("TOKEN\\n", &format!("{TOKEN}\\n"));
    fs::write(root.join("modules/google/colab/userdata.py"), userdata).unwrap();
}

fn cell(root: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg("-B").arg(CELL).env("PYTHONPATH", root.join("modules"));
    command.env("FILMGATE_ROOT", root).env_remove("FILMGATE_BRIDGE").env_remove("FILMGATE_GIST");
    command
}

#[tokio::test]
async fn the_cell_tells_the_url_on_every_change_and_again_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    lay_out(root);
    fs::write(root.join("name"), "first.trycloudflare.com").unwrap();
    let requests = Requests::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(told).with_state(requests.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (metrics, comfyui) = (ReservedPort::reserve(), ReservedPort::reserve());
    let mut command = cell(root);
    command.env("FILMGATE_BRIDGE", format!("http://{address}/comfyui-url"));
    command.env("FILMGATE_GIST", "0a1b").env("FILMGATE_GITHUB", format!("http://{address}"));
    command.env("FILMGATE_METRICS", metrics.address().to_string());
    command.env("FILMGATE_COMFYUI", comfyui.address().to_string());
    command.env("FILMGATE_LOOK", "0.1").env("FILMGATE_REPEAT", "0.5");
    let mut process = Process::spawn("cell", command, root);
    let wait_for = async |process: &mut Process, count: usize, name: &str| {
        let url = json!({"url": format!("https://{name}")});
        eventually(DEADLINE, name, async || {
            process.assert_running();
            let told = requests.lock().iter().filter(|(.., body)| *body == url).count();
            if told >= count { Ok(()) } else { Err(format!("{:?}", requests.lock())) }
        })
        .await;
    };
    wait_for(&mut process, 5, "first.trycloudflare.com").await;
    fs::write(root.join("name"), "second.trycloudflare.com").unwrap();
    wait_for(&mut process, 2, "second.trycloudflare.com").await;

    let requests = requests.lock().clone();
    let (gist, bridge): (Vec<_>, Vec<_>) =
        requests.iter().partition(|(method, ..)| *method == Method::PATCH);
    let bearer = format!("Bearer {TOKEN}");
    for (method, path, token, _) in bridge {
        let request = (method, &**path, token);
        assert_eq!(
            request,
            (&Method::POST, "/comfyui-url", &bearer),
            "nobody is followed elsewhere"
        );
    }
    let written: Vec<_> = gist
        .iter()
        .map(|(_, path, token, body)| {
            assert_eq!((&**path, &**token), ("/gists/0a1b", "Bearer gist"));
            body["files"]["comfyui-url"]["content"].as_str().unwrap()
        })
        .collect();
    let names = ["https://first.trycloudflare.com", "https://second.trycloudflare.com"];
    assert_eq!(written, names, "on a change alone");
    assert!(!process.log().contains(TOKEN), "{}", process.log());
}

#[tokio::test]
async fn the_cell_sends_its_token_to_nobody_who_could_be_overheard() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    for (bridge, why) in [("http://films.example.org/comfyui-url", "https://"), ("", "BRIDGE")] {
        let mut command = cell(folder.path());
        let output = command.env("FILMGATE_BRIDGE", bridge).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}
