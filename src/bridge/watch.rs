//! Looks at the tunnel: back to the ComfyUI in the cluster when it goes, and to it when it is back.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::decision::Wish;
use super::hysteresis::{Patience, Tunnel};
use super::target::{News, TargetError};
use super::work::{Bridge, Mode, Refusal};
use crate::comfyui::Vram;

/// How a tunnel is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What is asked while the tunnel is down; where there is none, the tunnel's URL stays.
    pub fallback: Option<String>,
    /// When it counts as down and as up.
    pub patience: Patience,
}

impl Default for Watch {
    fn default() -> Self {
        let patience =
            Patience { down_after: Duration::from_secs(60), up_after: Duration::from_secs(20) };
        Self { fallback: None, patience }
    }
}

/// The tunnel that is watched.
pub(super) struct Followed {
    pub(super) url: String,
    pub(super) tunnel: Tunnel,
}

impl Bridge {
    /// Looks again and again, for good.
    pub async fn watch(&self, every: Duration) {
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot look after the URL");
            }
        }
    }

    /// Looks at the tunnel that the ConfigMap names, and does what follows.
    ///
    /// # Errors
    /// When what lies in the cluster cannot be read or written. That the tunnel is down is none.
    pub async fn look(&self) -> Result<(), TargetError> {
        let looked = self.look_once().await;
        self.note_look(&looked);
        looked
    }

    async fn look_once(&self) -> Result<(), TargetError> {
        let mut turn = self.turn.lock().await;
        let written = self.target.read().await?.written;
        let Some(url) = written.tunnel.clone() else {
            self.note_tunnel(None, None, written.config);
            return Ok(());
        };
        let answer = self.gpus(&url).await;
        let is_asked = written.config.as_ref() == Some(&url);
        let new =
            || Followed { url: url.clone(), tunnel: Tunnel::new(is_asked, self.watch.patience) };
        let followed = turn.take().filter(|followed| followed.url == url).unwrap_or_else(new);
        let followed = turn.insert(followed);
        let has_turned = followed.tunnel.note(answer.is_ok(), self.clock.now());
        let is_up = followed.tunnel.is_up();
        let trouble = answer.as_ref().err().map(ToString::to_string);
        let mut asked = written.config.clone();
        if let Some(wish) = written.wish_while(is_up, self.watch.fallback.as_deref()) {
            self.settle(&wish, Mode::Do).await?;
            asked = Some(wish.url);
        }
        if has_turned {
            self.tell_turn(&url, trouble.as_deref(), asked.as_deref()).await;
        }
        self.note_tunnel(Some((url, is_up)), Some(answer), asked);
        Ok(())
    }

    /// What is in an annotation is no more believed than what is posted.
    async fn gpus(&self, text: &str) -> Result<Vec<Vram>, Refusal> {
        let url = self.rules.admit(text)?;
        Ok(self.probe.gpus(&url).await?)
    }

    async fn tell_turn(&self, url: &str, trouble: Option<&str>, asked: Option<&str>) {
        let asked = asked.unwrap_or("nothing");
        let news = match trouble {
            Some(why) => News {
                type_: "Warning",
                reason: "ComfyUITunnelDown",
                note: format!("{url} is down ({why}); {asked} is asked"),
            },
            None => News {
                type_: "Normal",
                reason: "ComfyUITunnelUp",
                note: format!("{url} is up again; {asked} is asked"),
            },
        };
        tracing::info!(reason = news.reason, note = news.note, "the tunnel has turned");
        match self.target.readers().await {
            Ok(readers) => self.target.tell(&readers, &news).await,
            Err(error) => tracing::warn!(%error, "nobody can be told"),
        }
    }
}

impl super::decision::Written {
    /// What is to lie there while the tunnel is up or down; `None` where somebody else has decided
    /// what is asked, or there is nothing to fall back to.
    #[must_use]
    pub fn wish_while(&self, is_up: bool, fallback: Option<&str>) -> Option<Wish> {
        let tunnel = self.tunnel.as_deref()?;
        let is_ours = match self.config.as_deref() {
            None => true,
            Some(url) => url == tunnel || Some(url) == fallback,
        };
        let url = if is_up { Some(tunnel) } else { fallback };
        let wish = url.map(|url| Wish { url: url.to_owned(), tunnel: Some(tunnel.to_owned()) });
        wish.filter(|_| is_ours)
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::Written;

    const TUNNEL: &str = "https://a.trycloudflare.com";
    const LOCAL: &str = "http://comfyui:8188";

    fn wished(config: Option<&str>, is_up: bool, fallback: Option<&str>) -> Option<String> {
        let config = config.map(str::to_owned);
        let written = Written { config, tunnel: Some(TUNNEL.to_owned()), ..Written::default() };
        written.wish_while(is_up, fallback).map(|wish| wish.url)
    }

    #[test]
    fn the_tunnel_while_it_is_up_and_the_cluster_while_it_is_down() {
        for config in [None, Some(TUNNEL), Some(LOCAL)] {
            assert_eq!(wished(config, true, Some(LOCAL)).as_deref(), Some(TUNNEL));
            assert_eq!(wished(config, false, Some(LOCAL)).as_deref(), Some(LOCAL));
        }
    }

    #[test]
    fn what_somebody_else_has_decided_stays() {
        let other = Some("http://workstation:8188");
        assert_eq!(wished(other, true, Some(LOCAL)), None);
        assert_eq!(wished(other, false, Some(LOCAL)), None);
        assert_eq!(wished(Some(LOCAL), true, None), None);
    }

    #[test]
    fn with_nothing_to_fall_back_to_the_tunnel_stays() {
        assert_eq!(wished(Some(TUNNEL), false, None), None);
        assert_eq!(Written::default().wish_while(true, Some(LOCAL)), None);
    }
}
