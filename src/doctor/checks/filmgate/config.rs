//! Whether kube-scheduler is told to ask the extender as it must be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{config_file, devices_of};
use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::Ground;

const FILE: &str = "kube-scheduler.yaml";

/// Whether the ConfigMap says of the extender what `config/kube-scheduler.yaml` says, for the devices
/// that this cluster has.
pub(in super::super) async fn extender_config(ground: &Ground) -> Outcome {
    let namespace = &ground.place.filmgate;
    let Some(text) = config_file(ground, FILE).await? else {
        return Ok(vec![Verdict::skipped(format!(
            "no {FILE} in ConfigMap {namespace}/filmgate: kube-scheduler is configured elsewhere \
             (compare with config/kube-scheduler-service.yaml)"
        ))]);
    };
    let nodes = ground.nodes().await?;
    let in_use: BTreeSet<_> = nodes.iter().flat_map(|node| devices_of(node).into_keys()).collect();
    let mend = format!("kubectl -n {namespace} edit configmap filmgate");
    let config = match serde_saphyr::from_str::<Value>(&text) {
        Ok(config) => config,
        Err(error) => return Ok(vec![Verdict::fail(format!("{FILE} is no YAML: {error}"), mend)]),
    };
    let complaints = complaints(&config, &in_use);
    if complaints.is_empty() {
        return Ok(vec![Verdict::ok("kube-scheduler asks the extender as documented")]);
    }
    Ok(complaints.into_iter().map(|complaint| complaint.told(&mend)).collect())
}

/// What is wrong, and whether pods can be placed wrongly or not at all by it.
#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    is_grave: bool,
    text: String,
}

impl Complaint {
    fn told(self, mend: &str) -> Verdict {
        match self.is_grave {
            true => Verdict::fail(self.text, mend),
            false => Verdict::warn(self.text, mend),
        }
    }
}

fn complaints(config: &Value, in_use: &BTreeSet<String>) -> Vec<Complaint> {
    let grave = |text: String| Complaint { is_grave: true, text };
    let light = |text: String| Complaint { is_grave: false, text };
    let extenders = config["extenders"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(extender) = extenders.iter().find(|one| one["bindVerb"] == "bind") else {
        return vec![grave(
            "no extender with bindVerb: bind: nothing keeps pods from full GPUs".into(),
        )];
    };
    let mut found = Vec::new();
    for verb in ["filter", "prioritize", "preempt"] {
        if extender[format!("{verb}Verb")] != verb {
            found.push(grave(format!("{verb}Verb is not {verb}")));
        }
    }
    if extender["ignorable"] == true {
        found.push(grave("ignorable: true places pods blindly while filmgate is away".into()));
    }
    if extender["nodeCacheCapable"] != true {
        found.push(light("nodeCacheCapable is not true: whole Node objects are sent".into()));
    }
    if extender["weight"].as_u64().is_none_or(|weight| weight < 160) {
        let given = &extender["weight"];
        found.push(light(format!("weight is {given}, below 160: held VRAM may be passed over")));
    }
    if config["percentageOfNodesToScore"] != 100 {
        found.push(light(
            "percentageOfNodesToScore is not 100: pods may wait although another node has room"
                .into(),
        ));
    }
    found.extend(unmanaged(extender, in_use).map(grave));
    found
}

/// Devices that are in use, and that kube-scheduler does not ask about.
fn unmanaged<'a>(
    extender: &'a Value,
    in_use: &'a BTreeSet<String>,
) -> impl Iterator<Item = String> {
    let managed = extender["managedResources"].as_array().map_or(&[][..], Vec::as_slice);
    let is_managed = move |name: &str| managed.iter().any(|one| one["name"] == name);
    let is_ours = |name: &str| {
        matches!(name, "nvidia.com/gpu" | "nvidia.com/gpu.shared")
            || name.starts_with("nvidia.com/mig-")
    };
    let ours = in_use.iter().filter(move |name| is_ours(name) && !managed.is_empty());
    ours.filter(move |name| !is_managed(name))
        .map(|name| format!("managedResources lacks {name}: pods with it pass filmgate by"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../config/kube-scheduler.yaml");

    fn shipped() -> Value {
        serde_saphyr::from_str(SHIPPED).unwrap()
    }

    fn devices(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_shipped_is_as_documented() {
        let in_use = devices(&["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/other"]);
        assert_eq!(complaints(&shipped(), &in_use), []);
    }

    #[test]
    fn each_departure_is_found() {
        let change = |pointer: &str, value: Value| {
            let mut config = shipped();
            *config.pointer_mut(pointer).unwrap() = value;
            complaints(&config, &BTreeSet::new())
        };
        for (pointer, value, is_grave, words) in [
            ("/extenders/0/bindVerb", Value::from(""), true, "bindVerb"),
            ("/extenders/0/filterVerb", Value::from("f"), true, "filterVerb"),
            ("/extenders/0/prioritizeVerb", Value::Null, true, "prioritizeVerb"),
            ("/extenders/0/preemptVerb", Value::Null, true, "preemptVerb"),
            ("/extenders/0/ignorable", Value::from(true), true, "ignorable"),
            ("/extenders/0/nodeCacheCapable", Value::from(false), false, "nodeCacheCapable"),
            ("/extenders/0/weight", Value::from(10), false, "weight is 10"),
            ("/percentageOfNodesToScore", Value::from(0), false, "percentageOfNodesToScore"),
        ] {
            let found = change(pointer, value);
            assert_eq!(found.len(), 1, "{pointer}: {found:?}");
            assert_eq!(found[0].is_grave, is_grave, "{pointer}");
            assert!(found[0].text.contains(words), "{pointer}: {found:?}");
        }
        assert!(complaints(&Value::Null, &BTreeSet::new())[0].is_grave);
    }

    #[test]
    fn a_mig_profile_in_use_must_be_managed() {
        let found = complaints(&shipped(), &devices(&["nvidia.com/mig-1g.10gb"]));
        assert!(found[0].is_grave && found[0].text.contains("nvidia.com/mig-1g.10gb"), "{found:?}");
    }
}
