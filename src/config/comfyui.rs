//! `comfyui`: pods whose ComfyUI is asked what it does; nobody's where the section is not there.

use std::num::NonZero;
use std::time::Duration;

use super::ConfigError;
use super::check::setting;
use super::settings::ComfyUiFile;
use crate::autoscaling::selector;
use crate::comfyui::Settings;

const POD_SELECTOR: &str = "app=comfyui";
const PORT: NonZero<u16> = NonZero::new(8188).unwrap();
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Oftener, ComfyUI would answer filmgate more than its users.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn comfyui(file: Option<&ComfyUiFile>) -> Result<Option<Settings>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    let labels = setting("comfyui.podSelector", POD_SELECTOR, file.pod_selector.as_ref());
    let pod_selector =
        selector::parse(&labels.text(POD_SELECTOR)?).map_err(|why| labels.wrong(why))?;
    let port = setting("comfyui.port", "8188", file.port.as_ref());
    let pause = setting("comfyui.pollInterval", "5s", file.poll_interval.as_ref());
    let poll_interval = pause.duration(POLL_INTERVAL)?;
    if poll_interval < SHORTEST_INTERVAL {
        return Err(pause.wrong("is below 1s"));
    }
    let port = port.parsed(PORT, "a port, 1 to 65535")?.get();
    Ok(Some(Settings { pod_selector, port, poll_interval }))
}
