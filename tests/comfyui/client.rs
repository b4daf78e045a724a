//! One ComfyUI, well and unwell.

use filmgate::comfyui::{Answers, Client};
use filmgate::engine::Bytes;
use filmgate::engine::comfyui::Queue;

use crate::comfyui::{ComfyUi, Fault, next_address};

async fn ask(comfyui: &ComfyUi) -> Answers {
    Client::new().unwrap().ask(comfyui.address()).await
}

/// Why the prompts are not known, and what was wrong with the devices.
async fn reasons(comfyui: &ComfyUi) -> (&'static str, &'static str) {
    let Answers { queue, devices } = ask(comfyui).await;
    let queue = queue.as_ref().map_or_else(|error| error.reason(), |_| "ok");
    (queue, devices.as_ref().map_or_else(|error| error.reason(), |_| "ok"))
}

#[tokio::test]
async fn tells_its_prompts_and_what_pytorch_has() {
    let comfyui = ComfyUi::start().await;
    comfyui.set_queue(1, 4);
    comfyui.set_torch(6 << 30, 1 << 30);
    let Answers { queue, devices } = ask(&comfyui).await;
    assert_eq!(queue, Ok(Queue { running: 1, pending: 4 }));
    let devices = devices.unwrap();
    assert_eq!((devices.len(), devices[0].index), (1, 0));
    assert_eq!(&*devices[0].name, "cuda:0 NVIDIA L4 : cudaMallocAsync");
    let torch = (devices[0].torch_total_bytes, devices[0].torch_free_bytes);
    assert_eq!(torch, (Bytes::gib(6), Bytes::gib(1)));
}

#[tokio::test]
async fn is_not_asked_for_a_list_that_is_empty_or_long() {
    let comfyui = ComfyUi::start().await;
    assert_eq!(ask(&comfyui).await.queue, Ok(Queue::default()));
    comfyui.set_queue(1, 4999);
    assert_eq!(ask(&comfyui).await.queue, Ok(Queue { running: 1, pending: 4999 }));
    assert_eq!(comfyui.asked(), ["/prompt", "/system_stats", "/prompt", "/system_stats"]);
    comfyui.set_queue(2, 3);
    assert_eq!(ask(&comfyui).await.queue, Ok(Queue { running: 2, pending: 3 }));
    assert_eq!(comfyui.asked()[4..], ["/prompt", "/queue", "/system_stats"]);
}

#[tokio::test]
async fn a_list_without_an_end_is_not_read_to_it_and_the_number_is_known_all_the_same() {
    let comfyui = ComfyUi::start().await;
    comfyui.set_queue(1, 2);
    comfyui.fails("/queue", Fault::Endless);
    assert_eq!(ask(&comfyui).await.queue, Ok(Queue { running: 1, pending: 2 }));
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_kind() {
    let comfyui = ComfyUi::start().await;
    let lie = |text: &str| Fault::Says(text.to_owned());
    for (fault, reason) in [
        (Fault::Html, "not_json"),
        (Fault::Endless, "too_large"),
        (Fault::Status(500), "status"),
        (Fault::Status(404), "status"),
        (Fault::Status(204), "status"),
        (lie(r#"{"exec_info": {"queue_remaining": -1}}"#), "impossible"),
        (lie(r#"{"exec_info": {"queue_remaining": "3"}}"#), "impossible"),
        (lie(r#"{"exec_info": {}}"#), "missing"),
        (lie("null"), "missing"),
        (lie(r#"{"exec_info": "#), "not_json"),
    ] {
        comfyui.fails("", fault.clone());
        assert_eq!(reasons(&comfyui).await, (reason, reason), "{fault:?}");
    }
    comfyui.recovers();
    assert_eq!(reasons(&comfyui).await, ("ok", "ok"));
}

#[tokio::test]
async fn a_lie_about_memory_costs_the_prompts_nothing() {
    let comfyui = ComfyUi::start().await;
    comfyui.set_torch(2, 3);
    assert_eq!(reasons(&comfyui).await, ("ok", "impossible"));
    comfyui.fails("/system_stats", Fault::Html);
    assert_eq!(reasons(&comfyui).await, ("ok", "not_json"));
    comfyui.fails("/system_stats", Fault::Endless);
    assert_eq!(reasons(&comfyui).await, ("ok", "too_large"));
}

#[tokio::test]
async fn whoever_hangs_or_drips_is_given_up() {
    let (hangs, drips) = (ComfyUi::start().await, ComfyUi::start().await);
    hangs.fails("", Fault::Hang);
    drips.fails("", Fault::Drip);
    let (hanging, dripping) = tokio::join!(reasons(&hangs), reasons(&drips));
    assert_eq!((hanging, dripping), (("timed_out", "timed_out"), ("timed_out", "timed_out")));
    let list = ComfyUi::start().await;
    list.set_queue(1, 1);
    list.fails("/queue", Fault::Drip);
    assert_eq!(reasons(&list).await.0, "timed_out");
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let (comfyui, elsewhere) = (ComfyUi::start().await, ComfyUi::start().await);
    let to = format!("http://{}/prompt", elsewhere.address());
    comfyui.fails("", Fault::Redirect(to));
    assert_eq!(reasons(&comfyui).await, ("redirect", "redirect"));
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn nobody_there_is_said() {
    let address = (next_address(), 9).into();
    let Answers { queue, devices } = Client::new().unwrap().ask(address).await;
    let error = queue.unwrap_err();
    assert_eq!((error.reason(), devices), ("unreachable", Err(error.clone())));
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn the_text_of_an_error_says_what_to_look_at() {
    let comfyui = ComfyUi::start().await;
    comfyui.fails("", Fault::Html);
    let error = ask(&comfyui).await.queue.unwrap_err().to_string();
    assert_eq!(
        error,
        "/prompt answers with what is no JSON (its type: text/html): is this its port?"
    );
}
