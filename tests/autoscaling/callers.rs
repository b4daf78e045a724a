//! Who is answered, through the API server and directly.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Client;
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::cluster::create;
use crate::support::eventually::eventually;
use crate::support::kubeconfig::User;
use crate::support::site::FRONT_PROXY;
use crate::world::{DEADLINE, Proof, World};

const PENDING: &str = "filmgate-pending-pods";

async fn code(client: &Client) -> u16 {
    World::ask(client, PENDING).await.map_or_else(|status| status.code, |_| 200)
}

fn token(world: &World, user: User) -> Option<String> {
    let kubeconfig = std::fs::read_to_string(world.replicas.cluster.kubeconfig(user)).unwrap();
    let kubeconfig: Value = serde_json::from_str(&kubeconfig).unwrap();
    Some(kubeconfig["users"][0]["user"]["token"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_the_api_server_knows_and_allows_is_answered() {
    let world = World::start().await;
    through_the_api_server(&world).await;
    by_token(&world).await;
    by_certificate(&world).await;
}

async fn through_the_api_server(world: &World) {
    let cluster = &world.replicas.cluster;
    let admin = cluster.admin();
    let list = World::ask(&admin, PENDING).await.unwrap();
    assert_eq!(list["items"][0]["metricLabels"], json!({"leading": "true"}));
    let unknown = World::ask(&admin, "filmgate-queue").await.unwrap_err();
    assert_eq!(unknown.code, 404);
    assert!(unknown.message.contains("there are filmgate-pending-pods, "), "{unknown:?}");
    let bad = World::ask(&admin, "filmgate-pending-pods?labelSelector=a%20on%20b").await;
    let bad = bad.unwrap_err();
    assert_eq!(bad.code, 400);
    assert!(bad.message.starts_with("labelSelector: \"a on b\""), "{bad:?}");

    let alice = cluster.client_as("alice", &["system:authenticated"]).await;
    assert_eq!(code(&alice).await, 403);
    let bindings = kube::Api::<RoleBinding>::default_namespaced(admin);
    let binding = json!({
        "metadata": {"name": "alice"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "filmgate:external-metrics-reader",
        },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice",
        }],
    });
    create(&bindings, &serde_json::from_value(binding).unwrap()).await;
    eventually(DEADLINE, "alice is answered", async || {
        let code = code(&alice).await;
        (code == 200).then_some(()).ok_or(code.to_string())
    })
    .await;
}

async fn by_token(world: &World) {
    let code_of = async |token| code(&world.directly(Proof { token, ..Proof::default() })).await;
    assert_eq!(code_of(None).await, 401);
    assert_eq!(code_of(Some("made up".to_owned())).await, 401);
    assert_eq!(code_of(token(world, User::Agent)).await, 403);
    assert_eq!(code_of(token(world, User::Admin)).await, 200);
}

async fn by_certificate(world: &World) {
    let user = Some("alice");
    let code_of = async |certificate, user| {
        code(&world.directly(Proof { certificate, user, token: None })).await
    };
    assert_eq!(code_of(None, user).await, 401, "headers alone are nobody's word");
    let front_proxy = world.replicas.cluster.front_proxy();
    let real = front_proxy.issued(FRONT_PROXY);
    assert_eq!(code_of(Some(real.clone()), user).await, 200);
    assert_eq!(code_of(Some(real.clone()), Some("mallory")).await, 403);
    assert_eq!(code_of(Some(real), None).await, 401, "for nobody");
    let other_name = front_proxy.issued("somebody-else");
    assert_eq!(code_of(Some(other_name), user).await, 401);
    let strangers = Authority::create(world.files.path(), "strangers");
    assert_eq!(code_of(Some(strangers.issued(FRONT_PROXY)), user).await, 401);
    let names = world.authentication().await.data.unwrap();
    assert_eq!(names["requestheader-allowed-names"], format!("[\"{FRONT_PROXY}\"]"));
}
