//! What is rendered, against the OpenAPI specifications of the oldest, a middle and the newest Kubernetes,
//! by kubeconform: unknown fields and wrong types. The API server's own word is in `applied`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::helm::{CLUSTERS, program, rendered_for, values_of};
use crate::support::manifests::shipped;
use crate::support::tools::{or_skipped, script};

const VERSIONS: [&str; 3] = ["1.30.14", "1.34.2", "1.37.2"];

/// Kinds of the Prometheus Operator have their own tests.
const WITH_ALL: &[&str] = &[
    "--set=externalMetrics.enabled=true",
    "--set=keda.enabled=true",
    "--set=config.idleNodes.annotateAfter=10m",
    "--set=admission.managedNodes=true",
    "--set=admission.podRules=true",
    "--set=monitoring.dashboards.enabled=true",
    "--set=namespace.create=true",
];

#[test]
fn every_variant_is_valid_for_every_version() {
    for version in VERSIONS {
        let Some(kubeconform) = Kubeconform::of(version) else { return };
        for cluster in CLUSTERS {
            let values = format!("--values={}", values_of(cluster));
            kubeconform.takes(version, &[&values]);
            kubeconform.takes(version, &[WITH_ALL, &[&values]].concat());
        }
        kubeconform.takes(version, WITH_ALL);
        kubeconform.refuses_what_is_wrong();
    }
}

/// kubeconform with the schemas of one version.
struct Kubeconform {
    schemas: TempDir,
}

impl Kubeconform {
    fn of(version: &str) -> Option<Self> {
        program("kubeconform")?;
        let found = script("tools/openapi.sh", &[&format!("v{version}")]);
        let spec = or_skipped(found, &format!("specification of {version}"))?;
        let spec: Value = serde_json::from_str(&fs::read_to_string(spec).unwrap()).unwrap();
        let schemas = TempDir::new().unwrap();
        write_schemas(&spec["definitions"], schemas.path());
        Some(Self { schemas })
    }

    fn verdict(&self, manifests: &str) -> Result<String, String> {
        let file = self.schemas.path().join("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        let location = self.schemas.path().join("{{ .ResourceKind }}{{ .KindSuffix }}.json");
        let mut kubeconform = program("kubeconform").unwrap();
        kubeconform.args(["-strict", "-summary", "-schema-location"]).arg(location).arg(file);
        let output = kubeconform.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn takes(&self, version: &str, arguments: &[&str]) {
        let manifests = rendered_for(version, arguments).unwrap().unwrap();
        let said = self.verdict(&manifests).unwrap_or_else(|wrong| {
            panic!("{arguments:?} for {version}: {wrong}");
        });
        let count = said.split_once("Summary: ").expect("a summary").1;
        assert!(!count.starts_with("0 ") && count.contains("Skipped: 0"), "{said}");
    }

    /// It would have said so.
    fn refuses_what_is_wrong(&self) {
        let manifests = fs::read_to_string(shipped("deploy/filmgate.yaml")).unwrap();
        for (right, wrong) in [("hostPID: true", "hostPid: true"), ("replicas: 2", "replicas: two")]
        {
            let broken = manifests.replace(right, wrong);
            assert_ne!(broken, manifests);
            self.verdict(&broken).expect_err(wrong);
        }
    }
}

/// A file for each kind, named as kubeconform looks for it, with all that it refers to.
fn write_schemas(definitions: &Value, folder: &Path) {
    let definitions = definitions.as_object().expect("definitions");
    for (name, definition) in definitions {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array();
        let [kind] = kinds.map(Vec::as_slice).unwrap_or_default() else { continue };
        let text = |key: &str| kind[key].as_str().unwrap().to_lowercase();
        let group = text("group");
        let group = group.split('.').next().filter(|group| !group.is_empty());
        let group = group.map(|group| format!("{group}-")).unwrap_or_default();
        let file = format!("{}-{group}{}.json", text("kind"), text("version"));
        let schema = json!({
            "$ref": format!("#/definitions/{name}"),
            "definitions": closure(definitions, name),
        });
        fs::write(folder.join(file), schema.to_string()).unwrap();
    }
}

/// A definition and all that it refers to, each strict: no field that it does not name.
fn closure(definitions: &Map<String, Value>, root: &str) -> Map<String, Value> {
    let mut wanted = vec![root.to_owned()];
    let mut seen = BTreeSet::new();
    let mut closed = Map::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let mut definition = definitions[&name].clone();
        references(&definition, &mut wanted);
        match &*name {
            "io.k8s.apimachinery.pkg.api.resource.Quantity"
            | "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
                definition = json!({"type": ["string", "number"]});
            }
            _ if definition["properties"].is_object() => {
                definition["additionalProperties"] = json!(false);
            }
            _ => {}
        }
        closed.insert(name, definition);
    }
    closed
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.extend(reference.strip_prefix("#/definitions/").map(str::to_owned));
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
