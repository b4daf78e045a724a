//! Secrets that are filled for the first time.

use std::sync::Arc;

use filmgate::certificates::Settings;
use filmgate::certificates::material::{CERTIFICATE, Data, KEY, Pair, authorities_in};
use filmgate::certificates::plan::Subject;
use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::cluster::create;
use crate::support::eventually::eventually;
use crate::support::manifests::{apply_objects, namespace, objects, shipped};
use crate::support::site::START_DEADLINE;
use crate::world::{
    AGENT, AGENT_NAME, API_SERVICE, AUTHORITY, CLIENT, LEAVES, NAMESPACE, SERVICE, World, secrets,
    settings, text,
};

#[tokio::test]
async fn empty_secrets_are_filled_with_what_tls_takes_on_both_sides() {
    let world = World::start().await;
    let expiries = world.round().await;
    assert_eq!(expiries.len(), 4, "{expiries:?}");
    let (server, client) = (world.data(AGENT).await, world.data(CLIENT).await);
    shake_hands(&server, &client, AGENT_NAME).await.unwrap();
    let refused = shake_hands(&server, &client, "another.filmgate.svc").await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    let swapped = shake_hands(&server, &server, AGENT_NAME).await.unwrap_err();
    assert!(swapped.contains("ertificate"), "a server's is no client's: {swapped}");

    let versions = async || {
        let all = world.secrets().list(&ListParams::default()).await.unwrap();
        all.into_iter().map(|one| one.metadata.resource_version).collect::<Vec<_>>()
    };
    let before = versions().await;
    world.round().await;
    assert_eq!(versions().await, before, "nothing was due");
}

/// The server's side has the one Secret, the client's the other.
async fn shake_hands(server: &Data, client: &Data, name: &str) -> Result<(), String> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(server)), Arc::clone(&provider));
    let (certificates, key) = pair(server);
    let accepting = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates, key)
        .unwrap();
    let (certificates, key) = pair(client);
    let connecting = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(client))
        .with_client_auth_cert(certificates, key)
        .unwrap();
    let (one, other) = tokio::io::duplex(1 << 14);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(connecting));
    let acceptor = TlsAcceptor::from(Arc::new(accepting));
    let (connected, accepted) = tokio::join!(connector.connect(name, one), acceptor.accept(other));
    connected.map_err(|error| error.to_string())?;
    accepted.map(drop).map_err(|error| error.to_string())
}

fn roots(data: &Data) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&data["ca.crt"].0) {
        roots.add(root.unwrap()).unwrap();
    }
    roots
}

fn pair(data: &Data) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificates = CertificateDer::pem_slice_iter(&data[CERTIFICATE].0);
    let key = PrivateKeyDer::from_pem_slice(&data[KEY].0).unwrap();
    (certificates.map(Result::unwrap).collect(), key)
}

#[tokio::test]
async fn several_at_once_end_in_one_authority() {
    let world = World::start().await;
    let keepers = join_all((0..4).map(|_| world.keeper())).await;
    let rounds = join_all(keepers.iter().map(|keeper| keeper.round())).await;
    for round in rounds {
        round.unwrap();
    }
    let authority = world.pair(AUTHORITY).await.certificate;
    let view = world.look().await;
    for name in LEAVES {
        assert!(view.shown[name].is_signed_by(&authority), "{name}");
        assert_eq!(view.believed[name], std::slice::from_ref(&authority), "{name}");
    }
}

#[tokio::test]
async fn it_may_do_no_more_than_that_and_says_what_is_missing() {
    let world = World::start().await;
    let theirs: Secret = serde_json::from_value(json!({"metadata": {"name": "theirs"}})).unwrap();
    create(&world.secrets(), &theirs).await;
    let own: Api<Secret> = Api::namespaced(world.client().await, NAMESPACE);
    let forbidden =
        |error: kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    assert!(forbidden(own.get("theirs").await.unwrap_err()));
    assert!(forbidden(own.list(&ListParams::default()).await.unwrap_err()));
    assert!(forbidden(own.delete(AGENT, &DeleteParams::default()).await.unwrap_err()));
    let more: Secret = serde_json::from_value(json!({"metadata": {"name": "more"}})).unwrap();
    assert!(forbidden(own.create(&PostParams::default(), &more).await.unwrap_err()));

    world.secrets().delete(SERVICE, &DeleteParams::default()).await.unwrap();
    let keeper = world.keeper().await;
    let missing = keeper.round().await.unwrap_err().to_string();
    let how = format!("kubectl create secret generic {SERVICE} --namespace {NAMESPACE}");
    assert!(missing.contains(&how), "{missing}");
    assert_eq!(keeper.last(), Some(Err(missing)));
    apply_objects(&world.cluster.admin(), secrets()).await;
    keeper.round().await.unwrap();
    assert_eq!(keeper.last(), Some(Ok(())));
}

#[tokio::test]
async fn the_api_server_is_told_whom_to_believe_where_the_service_is_ours() {
    let world = World::start().await;
    may_bundle(&world).await;
    let settings = Settings { api_service: Some(API_SERVICE.to_owned()), ..settings() };
    let keeper = world.keeper_with(settings).await;
    let absent = keeper.round().await.unwrap_err().to_string();
    assert!(absent.contains(&format!("APIService {API_SERVICE}")), "{absent}");
    // Nobody else waits for it.
    world.look().await;

    let admin = world.cluster.admin();
    let shipped = objects(&shipped("deploy/autoscaling/external-metrics.yaml"));
    let kind = "APIService";
    let ours = shipped.into_iter().find(|one| one.types.as_ref().is_some_and(|t| t.kind == kind));
    let mut ours = ours.expect("an APIService");
    let services: Api<APIService> = Api::all(admin.clone());
    let bundle = async || services.get(API_SERVICE).await.unwrap().spec.unwrap().ca_bundle;

    ours.data["spec"]["service"]["namespace"] = json!("keda");
    apply_objects(&admin, [ours.clone()]).await;
    keeper.round().await.unwrap();
    assert_eq!(bundle().await, None, "another's is left alone");

    ours.data["spec"]["service"]["namespace"] = json!(NAMESPACE);
    apply_objects(&admin, [ours]).await;
    keeper.round().await.unwrap();
    let authorities = text(&world.data(SERVICE).await, "ca.crt");
    assert_eq!(bundle().await, Some(ByteString(authorities.into_bytes())));
}

/// KEDA reads its certificate in its own namespace.
#[tokio::test]
async fn a_secret_in_another_namespace_is_filled_too() {
    let world = World::start().await;
    let rule = json!({
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["filmgate-scaler"],
        "verbs": ["get", "update"],
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "filmgate-scaler", "namespace": "keda"},
    });
    let admin = world.cluster.admin();
    apply_objects(&admin, [namespace("keda", &[]), object(secret)]).await;
    apply_objects(&admin, granted(Some("keda"), &rule)).await;
    let mut settings = settings();
    settings.leaves.push(("keda/filmgate-scaler".to_owned(), Subject::Client("keda".to_owned())));
    let keeper = world.keeper_with(settings).await;
    eventually(START_DEADLINE, "the rights in force", async || keeper.round().await).await;
    let secrets: Api<Secret> = Api::namespaced(admin, "keda");
    let data = secrets.get("filmgate-scaler").await.unwrap().data.unwrap();
    let certificate = Pair::in_data(&data).unwrap().certificate;
    assert!(authorities_in(&data).iter().any(|one| certificate.is_signed_by(one)));
}

/// As the chart has it where external metrics are served.
async fn may_bundle(world: &World) {
    let rule = json!({
        "apiGroups": ["apiregistration.k8s.io"],
        "resources": ["apiservices"],
        "resourceNames": [API_SERVICE],
        "verbs": ["get", "patch"],
    });
    apply_objects(&world.cluster.admin(), granted(None, &rule)).await;
}

/// A right for the process, in a namespace or in the cluster.
fn granted(namespace: Option<&str>, rule: &serde_json::Value) -> [DynamicObject; 2] {
    let scope = if namespace.is_some() { "" } else { "Cluster" };
    let group = "rbac.authorization.k8s.io";
    let metadata = json!({"name": "filmgate-certificates", "namespace": namespace});
    let (role, binding) = (format!("{scope}Role"), format!("{scope}RoleBinding"));
    let account =
        json!({"kind": "ServiceAccount", "name": "filmgate-certificates", "namespace": NAMESPACE});
    [
        object(json!({
            "apiVersion": format!("{group}/v1"), "kind": role, "metadata": metadata,
            "rules": [rule],
        })),
        object(json!({
            "apiVersion": format!("{group}/v1"), "kind": binding, "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": role, "name": "filmgate-certificates"},
            "subjects": [account],
        })),
    ]
}

fn object(value: serde_json::Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}
