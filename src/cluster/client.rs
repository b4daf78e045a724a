//! The connection to the API server, and what became of a request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::legacy::Error as TransportError;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::response::reason::NOT_FOUND;
use kube::{Client, Config};

/// A Binding has 3 s in all; a machine that does not even take connections must show itself sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KubeconfigError,
    },
    /// Neither in a cluster, nor a kubeconfig at the usual place.
    #[error("no way to a cluster: {0}")]
    Infer(#[source] InferConfigError),
    /// The certificates or credentials cannot be used.
    #[error("cannot make a client: {0}")]
    Client(#[source] kube::Error),
}

/// A client by that kubeconfig; without one by `KUBECONFIG`, by the usual file, or as the pod that
/// this is.
///
/// # Errors
/// When none of them says how.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path)
            .await
            .map_err(|source| ConnectError::Kubeconfig { path: path.to_owned(), source })?,
        None => Config::infer().await.map_err(ConnectError::Infer)?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A request that is repeated unseen could not be told from one that was never carried out.
    config.default_retry = false;
    Client::try_from(config).map_err(ConnectError::Client)
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

/// Why a request did not succeed, by what may have become of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The API server answered with this HTTP status.
    #[error("{message} ({code})")]
    Answered {
        /// The HTTP status.
        code: u16,
        /// The API server's words.
        message: String,
    },
    /// It never left.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been carried out.
    #[error("no answer: {0}")]
    Lost(String),
}

/// What a failed request comes to, in a line.
#[must_use]
pub fn in_a_line(error: kube::Error) -> String {
    Failure::from(error).to_string()
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        use kube::Error;
        match error {
            // A gateway's "404 page not found" says nothing of the object.
            Error::Api(status) if status.code == 404 && status.reason != NOT_FOUND => {
                Self::Lost(format!("{} (404, and not by the API server)", status.message))
            }
            Error::Api(status) => Self::Answered { code: status.code, message: status.message },
            Error::BuildRequest(_) | Error::HttpError(_) | Error::Auth(_) => {
                Self::NotSent(error.to_string())
            }
            Error::Service(ref source) if is_unconnected(source.as_ref()) => {
                Self::NotSent(deepest(source.as_ref()))
            }
            Error::Service(ref source) => Self::Lost(deepest(source.as_ref())),
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// No connection was made, so no request went over it.
fn is_unconnected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .any(|cause| cause.downcast_ref::<TransportError>().is_some_and(TransportError::is_connect))
}

/// The transport's own words say "client error (Connect)"; the cause below says why.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn not_found(reason: &str) -> Failure {
        let status = Status::failure("not found", reason).with_code(404);
        Failure::from(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn only_the_api_server_knows_that_something_is_not_there() {
        let message = "not found".to_owned();
        assert_eq!(not_found("NotFound"), Failure::Answered { code: 404, message });
        for reason in ["", "Failed to parse error data"] {
            assert!(matches!(not_found(reason), Failure::Lost(_)), "{reason}");
        }
    }
}
