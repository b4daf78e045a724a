//! What answers over HTTP: ComfyUI in the cluster and by the tunnel, Dagster's page.

use std::time::Duration;

use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::client::Body;
use kube::{Api, Client, Config};
use reqwest::Url;

use crate::cluster::in_a_line;
use crate::doctor::finding::{Outcome, Unmade, Verdict};
use crate::doctor::ground::{Ground, get};

const COMFYUI_URL: &str = "COMFYUI_URL";
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether ComfyUI answers: the one in the cluster through the API server, and the one that clients
/// are sent to.
pub(in super::super) async fn comfyui(ground: &Ground) -> Outcome {
    let namespace = &ground.place.pipeline;
    let path = format!("/api/v1/namespaces/{namespace}/services/comfyui:8188/proxy/system_stats");
    let request = Request::get(path).body(Body::empty());
    let request = request.map_err(|error| Unmade(error.to_string()))?;
    let answer = answer(&ground.client, request).await;
    let mut verdicts = vec![judge(
        "ComfyUI in the cluster",
        answer,
        &format!("kubectl -n {namespace} get pods,endpointslices -l app=comfyui -o wide"),
    )];
    match comfyui_url(ground).await? {
        Some(url) => verdicts.extend(by_tunnel(&url, namespace).await),
        None => verdicts.push(Verdict::skipped(format!("no {COMFYUI_URL} is set"))),
    }
    Ok(verdicts)
}

/// As clients read it: the ConfigMap before the secret.
async fn comfyui_url(ground: &Ground) -> Result<Option<String>, Unmade> {
    let namespace = &ground.place.pipeline;
    let configs: Api<ConfigMap> = Api::namespaced(ground.client.clone(), namespace);
    let config = get(&configs, "comfyui-config").await?.and_then(|config| config.data);
    if let Some(url) = config.and_then(|mut data| data.remove(COMFYUI_URL)) {
        return Ok(Some(url));
    }
    let secrets: Api<Secret> = Api::namespaced(ground.client.clone(), namespace);
    let secret = get(&secrets, "comfyui-secret").await?.and_then(|secret| secret.data);
    let url = secret.and_then(|mut data| data.remove(COMFYUI_URL));
    Ok(url.and_then(|url| String::from_utf8(url.0).ok()))
}

/// Nothing where the URL leads into the cluster, which this machine may not reach.
async fn by_tunnel(url: &str, namespace: &str) -> Option<Verdict> {
    let mend = format!("kubectl -n {namespace} get configmap comfyui-config -o yaml");
    // The URL may have credentials in it: only its host is shown.
    let parsed = Url::parse(url.trim()).ok().filter(|url| url.scheme().starts_with("http"));
    let Some((url, host)) = parsed.and_then(|url| Some((url.clone(), url.host_str()?.to_owned())))
    else {
        return Some(Verdict::fail(format!("{COMFYUI_URL} is no http URL"), mend));
    };
    if is_in_cluster(&host) {
        return None;
    }
    let mut stats = url;
    stats.set_path("/system_stats");
    Some(judge(&format!("ComfyUI by {host}"), fetch(&stats).await, &mend))
}

fn is_in_cluster(host: &str) -> bool {
    !host.contains('.') || host.ends_with(".svc") || host.contains(".svc.")
}

/// Whether Dagster's page answers where people open it.
pub(in super::super) async fn dagster(ground: &Ground) -> Outcome {
    let url = &ground.place.dagster;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let namespace = &ground.place.pipeline;
    if tokio::net::lookup_host((host, port)).await.is_err() {
        return Ok(vec![Verdict::warn(
            format!("this machine does not know the name {host}"),
            format!(
                "kubectl -n {namespace} get service dagster # its address belongs into /etc/hosts: ADDRESS {host}"
            ),
        )]);
    }
    let mend = format!("kubectl -n {namespace} get service,endpointslices -l app=dagster");
    Ok(vec![judge(&format!("Dagster's page at {host}:{port}"), fetch(url).await, &mend)])
}

fn judge(what: &str, answer: Result<StatusCode, String>, mend: &str) -> Verdict {
    match answer {
        Ok(status) if status.is_success() || status.is_redirection() => {
            Verdict::ok(format!("{what} answers"))
        }
        Ok(status) => Verdict::fail(format!("{what} answers {status}"), mend),
        Err(error) => Verdict::fail(format!("{what} does not answer: {error}"), mend),
    }
}

/// The API server's client speaks to any server, and trusts the authorities of this machine.
async fn fetch(url: &Url) -> Result<StatusCode, String> {
    let uri = url.as_str().parse::<http::Uri>().map_err(|error| error.to_string())?;
    let mut base = url.clone();
    base.set_path("");
    base.set_query(None);
    let mut config = Config::new(base.as_str().parse().map_err(|_| "is no URL".to_owned())?);
    config.connect_timeout = Some(PATIENCE);
    config.read_timeout = Some(PATIENCE);
    config.default_retry = false;
    let client = Client::try_from(config).map_err(in_a_line)?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::get(path).body(Body::empty());
    answer(&client, request.map_err(|error| error.to_string())?).await
}

async fn answer(client: &Client, request: Request<Body>) -> Result<StatusCode, String> {
    let sent = tokio::time::timeout(2 * PATIENCE, client.send(request)).await;
    let answer = sent.map_err(|_| "it takes too long".to_owned())?;
    answer.map(|answer| answer.status()).map_err(in_a_line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn only_an_answer_that_is_one_is_well() {
        let level = |answer| judge("it", answer, "m").level;
        assert_eq!(level(Ok(StatusCode::OK)), Level::Ok);
        assert_eq!(level(Ok(StatusCode::FOUND)), Level::Ok);
        assert_eq!(level(Ok(StatusCode::BAD_GATEWAY)), Level::Fail);
        assert_eq!(level(Err("refused".to_owned())), Level::Fail);
    }

    #[test]
    fn a_name_of_the_cluster_is_not_asked_from_here() {
        for host in ["comfyui", "comfyui.ai-film.svc", "comfyui.ai-film.svc.cluster.local"] {
            assert!(is_in_cluster(host), "{host}");
        }
        assert!(!is_in_cluster("a-b.trycloudflare.com"));
    }
}
