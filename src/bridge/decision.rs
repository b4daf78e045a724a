//! What is to be written.

/// What lies in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The ConfigMap's URL.
    pub config: Option<String>,
    /// The Secret's URL; `None` where no Secret is kept.
    pub secret: Option<Option<String>>,
    /// The tunnel that was told last, be it up or down.
    pub tunnel: Option<String>,
    /// A URL was written, and not all that read it have been restarted since.
    pub is_restart_due: bool,
}

/// What is to lie there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The URL that is to be asked.
    pub url: String,
    /// The tunnel to come back to.
    pub tunnel: Option<String>,
}

/// What leads from the one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing is to be done.
    Nothing,
    /// The tunnel is to be remembered; nobody reads that.
    Remember,
    /// The URL is to be written, and those that read it restarted.
    Replace,
}

impl Written {
    /// What leads to that wish.
    #[must_use]
    pub fn change_to(&self, wish: &Wish) -> Change {
        let is_written = |held: &Option<String>| held.as_ref() == Some(&wish.url);
        let is_same = is_written(&self.config) && self.secret.as_ref().is_none_or(is_written);
        if !is_same || self.is_restart_due {
            Change::Replace
        } else if self.tunnel != wish.tunnel {
            Change::Remember
        } else {
            Change::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "https://new.trycloudflare.com";

    fn written(url: &str) -> Written {
        let url = Some(url.to_owned());
        Written {
            config: url.clone(),
            secret: Some(url.clone()),
            tunnel: url,
            is_restart_due: false,
        }
    }

    fn wish() -> Wish {
        Wish { url: NEW.to_owned(), tunnel: Some(NEW.to_owned()) }
    }

    #[test]
    fn an_unchanged_url_changes_nothing() {
        assert_eq!(written(NEW).change_to(&wish()), Change::Nothing);
        let without_secret = Written { secret: None, ..written(NEW) };
        assert_eq!(without_secret.change_to(&wish()), Change::Nothing);
    }

    #[test]
    fn another_url_in_either_place_is_replaced() {
        let old = || Some("http://comfyui:8188".to_owned());
        for before in [
            Written::default(),
            Written { config: old(), ..written(NEW) },
            Written { secret: Some(old()), ..written(NEW) },
            Written { secret: Some(None), ..written(NEW) },
        ] {
            assert_eq!(before.change_to(&wish()), Change::Replace, "{before:?}");
        }
    }

    #[test]
    fn a_restart_that_was_not_finished_is_due() {
        let before = Written { is_restart_due: true, ..written(NEW) };
        assert_eq!(before.change_to(&wish()), Change::Replace);
    }

    #[test]
    fn a_tunnel_is_remembered_without_a_restart() {
        let before = Written { tunnel: None, ..written(NEW) };
        assert_eq!(before.change_to(&wish()), Change::Remember);
    }
}
