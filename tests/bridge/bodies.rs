//! What comes instead of a short JSON.

use std::time::Duration;

use reqwest::{Body, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{Door, TOKEN, World, answer};

/// Longer than any limit of the listener, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_body_that_is_huge_slow_or_something_else_is_cut_off() {
    let world = World::start().await;
    let door = world.door().await;
    let refused = async |body: Body| {
        world.clock.advance(Duration::from_secs(60));
        answer(door.request(TOKEN).body(body)).await
    };
    let huge = json!({"url": "a".repeat(1 << 20)}).to_string();
    assert_eq!(refused(huge.into()).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 256]));
    let (status, said) = refused(Body::wrap_stream(endless)).await;
    assert_eq!((status, &said["reason"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_long")));
    for text in ["", "https://a", "{}", "[]", r#"{"url": 1}"#, r#"{"url": "a", "token": "b"}"#] {
        let (status, said) = refused(text.into()).await;
        assert_eq!((status, &said["reason"]), (StatusCode::BAD_REQUEST, &json!("not_json")));
    }
    let (slow_body, slow_head) = tokio::join!(slow(&door, true), slow(&door, false));
    assert!(slow_body.starts_with("HTTP/1.1 408"), "{slow_body}");
    assert!(slow_head.is_empty() || slow_head.starts_with("HTTP/1.1 4"), "{slow_head}");
    world.assert_untouched().await;
}

/// What the listener says, until it hangs up, to one who goes on a byte at a time.
async fn slow(door: &Door, with_head: bool) -> String {
    let head = format!(
        "POST /comfyui-url HTTP/1.1\r\nHost: bridge\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 1000\r\n\r\n"
    );
    let head = if with_head { &*head } else { "POST /comfyui-url HTTP/1.1\r\n" };
    let stream = TcpStream::connect(door.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    to.write_all(head.as_bytes()).await.unwrap();
    let dripping = tokio::spawn(async move {
        while to.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut said = Vec::new();
    // Reset or closed: it has hung up.
    let _ended = timeout(DEADLINE, from.read_to_end(&mut said)).await.expect("an end");
    dripping.abort();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_url_that_cannot_be_meant_is_refused_before_anybody_is_asked() {
    let world = World::start().await;
    let door = world.door().await;
    let port = world.tunnel.port();
    let host = world.tunnel.host;
    for (url, reason) in [
        (format!("http://{host}:{port}"), "scheme"),
        (format!("https://example.org:{port}"), "foreign_host"),
        (format!("https://{host}:{port}@example.org"), "user_info"),
        (format!("https://user@{host}:{port}"), "user_info"),
        (format!("https://xn--4ca.trycloudflare.com:{port}"), "punycode"),
        (format!("https://127.0.0.1:{port}"), "ip_literal"),
        (format!("https://169.254.169.254:{port}"), "ip_literal"),
        (format!("https://{host}:22"), "port"),
        (format!("https://{host}:{port}/system_stats"), "path"),
        (format!("https://{host}.:{port}"), "foreign_host"),
        (format!("https://{host}:{port}\\@example.org"), "characters"),
    ] {
        world.clock.advance(Duration::from_secs(60));
        let (status, said): (_, Value) = door.tell(&url).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{url}: {said}");
        assert_eq!(said["reason"], reason, "{url}: {said}");
    }
    assert_eq!(world.tunnel.comfyui.asked(), [""; 0]);
    world.assert_untouched().await;
}
