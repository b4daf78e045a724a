//! Who talks to the API server, and the files that let them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Those that the API server knows by a token. RBAC decides what each may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The test itself: `system:masters`.
    Admin,
    /// kube-scheduler, with the rights that Kubernetes gives it by default.
    Scheduler,
    /// kube-controller-manager, likewise.
    ControllerManager,
    /// kwok: `system:masters`, since it stands in for any kubelet.
    Kwok,
    /// A real kubelet, likewise.
    Kubelet,
    /// filmgate's service account: no rights but those that the test grants.
    Filmgate,
    /// Its agent's, likewise.
    Agent,
    /// The one that keeps its certificates, likewise.
    Certificates,
}

impl User {
    const ALL: [Self; 8] = [
        Self::Admin,
        Self::Scheduler,
        Self::ControllerManager,
        Self::Kwok,
        Self::Kubelet,
        Self::Filmgate,
        Self::Agent,
        Self::Certificates,
    ];

    /// The name that RBAC knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Scheduler => "system:kube-scheduler",
            Self::ControllerManager => "system:kube-controller-manager",
            Self::Kwok => "kwok",
            Self::Kubelet => "kubelet",
            Self::Filmgate => "system:serviceaccount:filmgate:filmgate",
            Self::Agent => "system:serviceaccount:filmgate:filmgate-agent",
            Self::Certificates => "system:serviceaccount:filmgate:filmgate-certificates",
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Self::Admin | Self::Kwok | Self::Kubelet => "system:masters",
            Self::Scheduler | Self::ControllerManager => "",
            Self::Filmgate | Self::Agent | Self::Certificates => {
                "system:serviceaccounts,system:serviceaccounts:filmgate"
            }
        }
    }
}

/// One cluster's tokens, in files: a kubeconfig for each user and the list that
/// the API server reads.
pub struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    /// Makes tokens up and writes the files into `folder`.
    pub fn create(folder: PathBuf, api_url: &str, ca: &Path) -> Self {
        fs::create_dir(&folder).expect("a folder for credentials");
        let credentials = Self { folder };
        let mut known = String::new();
        for user in User::ALL {
            let token = format!("{:032x}", rand::random::<u128>());
            let (name, groups) = (user.name(), user.groups());
            known += &format!("{token},{name},{name},\"{groups}\"\n");
            let kubeconfig = render(api_url, ca, &token);
            fs::write(credentials.kubeconfig(user), kubeconfig).expect("a kubeconfig");
        }
        fs::write(credentials.token_file(), known).expect("a token file");
        credentials
    }

    /// A user's kubeconfig.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder.join(format!("{}.kubeconfig", user.name().replace(':', "-")))
    }

    /// What kube-apiserver takes as `--token-auth-file`.
    pub fn token_file(&self) -> PathBuf {
        self.folder.join("tokens.csv")
    }
}

/// A kubeconfig of whoever has that token. JSON, which is YAML too.
pub fn render(api_url: &str, ca: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": api_url, "certificate-authority": ca}}],
        "users": [{"name": "test", "user": {"token": token}}],
    })
    .to_string()
}
