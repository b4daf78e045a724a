use super::*;

fn body(path: &'static str, text: &str) -> Body {
    Body { path, content_type: "application/json".to_owned(), bytes: text.into() }
}

fn stats(device: &str) -> Result<Vec<TorchDevice>, AskError> {
    devices(&body(SYSTEM_STATS, &format!(r#"{{"system": {{}}, "devices": [{device}]}}"#)))
}

fn list(text: &str) -> Result<Queue, AskError> {
    counted(text.as_bytes(), Bytes::mib(1), "text/plain".to_owned())
}

#[test]
fn reads_what_comfyui_says() {
    let prompt = body(PROMPT, r#"{"exec_info": {"queue_remaining": 3}}"#);
    assert_eq!(depth(&prompt), Ok(3));
    let queue = r#"{"queue_running": [[1, "a", {"3": {"inputs": {"text": "]"}}}, {}, ["9"]]],
                    "queue_pending": [[2, "b", {}, {}, []], [3, "c", {}, {}, []]]}"#;
    assert_eq!(list(queue), Ok(Queue { running: 1, pending: 2 }));
    let device = r#"{"name": "cuda:0 NVIDIA L4 : cudaMallocAsync", "type": "cuda", "index": 0,
                     "vram_total": 24, "vram_free": 10, "torch_vram_total": 8, "torch_vram_free": 2}"#;
    let read = TorchDevice {
        name: "cuda:0 NVIDIA L4 : cudaMallocAsync".into(),
        index: 0,
        torch_total_bytes: Bytes::new(8),
        torch_free_bytes: Bytes::new(2),
    };
    assert_eq!(stats(device), Ok(vec![read]));
}

#[test]
fn bears_with_what_a_build_does_not_say() {
    assert_eq!(devices(&body(SYSTEM_STATS, "{}")), Ok(vec![]));
    assert_eq!(stats(r#"{"name": "cuda:0", "vram_total": 24}"#), Ok(vec![]));
    assert_eq!(stats(r#"{"torch_vram_total": 8, "torch_vram_free": null}"#), Ok(vec![]));
    assert_eq!(list(r#"{"queue_pending": [1], "more": {}}"#), Ok(Queue { running: 0, pending: 1 }));
    let nameless = stats(r#"{}, {"torch_vram_total": 8, "torch_vram_free": 2}"#).unwrap();
    assert_eq!((&*nameless[0].name, nameless[0].index), ("", 1), "its place tells its number");
}

#[test]
fn the_hosts_memory_is_no_devices() {
    let host = r#"{"type": "cpu", "index": null, "torch_vram_total": 8, "torch_vram_free": 2}"#;
    assert_eq!(stats(host), Ok(vec![]));
}

#[test]
fn figures_that_cannot_be_are_named() {
    for (device, says) in [
        (r#"{"torch_vram_total": -1, "torch_vram_free": 0}"#, "devices[0].torch_vram_total: -1, "),
        (
            r#"{"torch_vram_total": "8", "torch_vram_free": 0}"#,
            r#"torch_vram_total: "8", which is"#,
        ),
        (r#"{"torch_vram_total": 8, "torch_vram_free": 0.5}"#, "torch_vram_free: 0.5, which is no"),
        (r#"{"torch_vram_total": 8, "torch_vram_free": 9}"#, "torch_vram_free: 9, which is above"),
        (r#"{"vram_total": 8, "vram_free": 9}"#, "vram_free: 9, which is above its total"),
        (r#"{"vram_total": 8, "torch_vram_total": 9}"#, "torch_vram_total: 9, which is above"),
        (r#"{}, {"vram_total": 1e40, "vram_free": 9}"#, "devices[1].vram_total: 1e+40, which is"),
    ] {
        let error = stats(device).unwrap_err();
        assert_eq!(error.reason(), "impossible");
        assert!(error.to_string().contains(says), "{error}");
    }
    for count in ["-3", "\"3\"", "2.5", "1000001", "[]"] {
        let prompt = body(PROMPT, &format!(r#"{{"exec_info": {{"queue_remaining": {count}}}}}"#));
        let error = depth(&prompt).unwrap_err().to_string();
        let says = format!("/prompt answers exec_info.queue_remaining: {count}, which is ");
        assert!(error.starts_with(&says), "{error}");
    }
    let error = devices(&body(SYSTEM_STATS, r#"{"devices": 3}"#)).unwrap_err().to_string();
    assert_eq!(error, "/system_stats answers devices: 3, which is no list");
}

#[test]
fn a_long_lie_is_shown_in_short() {
    let long = "9".repeat(300);
    let error = stats(&format!(r#"{{"vram_total": "{long}", "vram_free": 1}}"#)).unwrap_err();
    assert!(error.to_string().len() < 150, "{error}");
}

#[test]
fn what_is_something_elses_is_said() {
    let error = depth(&body(PROMPT, r#"{"status": "ok"}"#)).unwrap_err();
    assert_eq!(error.reason(), "missing");
    for text in ["{}", "[1]", "3", r#"{"queue_running": 3}"#, r#"{"queue_running": {}}"#] {
        assert_eq!(list(text).unwrap_err().reason(), "missing", "{text}");
    }
    for text in ["", "<html>", r#"{"queue_running": ["#, r#"{"queue_running": []} x"#] {
        assert_eq!(list(text).unwrap_err().reason(), "not_json", "{text}");
        assert_eq!(depth(&body(PROMPT, text)).unwrap_err().reason(), "not_json", "{text}");
    }
}

#[test]
fn a_list_is_read_up_to_its_limit() {
    let most = Bytes::new(1000);
    let of = |prompts| format!(r#"{{"queue_running": [{}]}}"#, vec!["[]"; prompts].join(","));
    let count = |text: String| counted(text.as_bytes(), most, String::new());
    assert_eq!(count(of(300)), Ok(Queue { running: 300, pending: 0 }));
    assert_eq!(count(of(400)), Err(AskError::TooLarge { path: QUEUE, most }));
}
