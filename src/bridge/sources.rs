//! Places that hold the URL, for where nothing comes in from outside: a page (a gist for example),
//! and a file of this machine.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{MissedTickBehavior, interval};
use url::{Host, Url};

use super::probe::{Page, Probe};
use super::url::HTTPS_PORT;
use super::work::{Bridge, Mode};

/// A URL has up to 300 characters.
const LONGEST: u64 = 1024;

/// A page whose text is the URL. Its host is the only one that is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollUrl(Page);

/// Why a page cannot be polled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write https://HOST/PATH, with a name for the host and without a user's name")]
pub struct PollUrlError;

impl FromStr for PollUrl {
    type Err = PollUrlError;

    fn from_str(text: &str) -> Result<Self, PollUrlError> {
        let url = Url::parse(text).map_err(|_| PollUrlError)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let Some(Host::Domain(host)) = url.host() else { return Err(PollUrlError) };
        if url.scheme() != "https" || has_user {
            return Err(PollUrlError);
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self(Page {
            host: host.to_owned(),
            port: url.port().unwrap_or(HTTPS_PORT),
            path: format!("{}{query}", url.path()),
        }))
    }
}

/// Where the URL is read.
#[derive(Debug, Clone)]
pub enum Source {
    /// From a page.
    Page(PollUrl),
    /// From a file.
    File(PathBuf),
}

impl Source {
    /// Reads the URL again and again, and has it taken when it is another. What was refused is
    /// tried again.
    pub async fn follow(self, bridge: Arc<Bridge>, every: Duration) {
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = None;
        loop {
            looks.tick().await;
            match self.read(bridge.probe()).await {
                Ok(url) if url.is_empty() || taken.as_ref() == Some(&url) => {}
                Ok(url) => match bridge.offer(&url, Mode::Do).await {
                    Ok(_) => taken = Some(url),
                    Err(refusal) => {
                        tracing::warn!(reason = refusal.reason(), %refusal, "a URL is not taken");
                    }
                },
                Err(why) => tracing::warn!(source = ?self, why, "no URL can be read"),
            }
        }
    }

    async fn read(&self, probe: &Probe) -> Result<String, String> {
        let text = match self {
            Self::Page(PollUrl(page)) => {
                probe.text(page).await.map_err(|error| error.to_string())?
            }
            Self::File(path) => read_file(path).await.map_err(|error| error.to_string())?,
        };
        Ok(text.trim().to_owned())
    }
}

async fn read_file(path: &PathBuf) -> std::io::Result<String> {
    let mut text = String::new();
    tokio::fs::File::open(path).await?.take(LONGEST).read_to_string(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_named_by_https_and_a_name() {
        let page = "https://gist.githubusercontent.com/me/0a/raw/comfyui-url?a=b";
        let PollUrl(page) = page.parse().unwrap();
        assert_eq!((&*page.host, page.port), ("gist.githubusercontent.com", 443));
        assert_eq!(page.path, "/me/0a/raw/comfyui-url?a=b");
        for text in
            ["http://a.example/b", "https://1.2.3.4/", "https://[::1]/", "https://u@a.b/", "a"]
        {
            assert!(text.parse::<PollUrl>().is_err(), "{text}");
        }
    }
}
