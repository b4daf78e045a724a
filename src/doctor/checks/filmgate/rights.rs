//! Whether the API server lets filmgate do what it does.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use crate::doctor::finding::{Outcome, Unmade, Verdict};
use crate::doctor::ground::{Ground, unmade};

/// What is asked about: verb, group, resource, and whether in filmgate's namespace only.
type Right = (&'static str, &'static str, &'static str, bool);

/// The rights of `deploy/filmgate.yaml` for the extender. Its Lease is looked at by itself.
const RIGHTS: [Right; 14] = [
    ("get", "", "pods", false),
    ("list", "", "pods", false),
    ("watch", "", "pods", false),
    ("patch", "", "pods", false),
    ("create", "", "pods/binding", false),
    ("list", "", "nodes", false),
    ("watch", "", "nodes", false),
    ("list", "", "namespaces", false),
    ("watch", "", "namespaces", false),
    ("list", "policy", "poddisruptionbudgets", false),
    ("watch", "policy", "poddisruptionbudgets", false),
    ("create", "events.k8s.io", "events", false),
    ("list", "discovery.k8s.io", "endpointslices", true),
    ("watch", "discovery.k8s.io", "endpointslices", true),
];

/// Whether filmgate's service account may do what the extender does.
pub(in super::super) async fn rights(ground: &Ground) -> Outcome {
    let user = format!("system:serviceaccount:{}:filmgate", ground.place.filmgate);
    let asked = join_all(RIGHTS.iter().map(|right| is_allowed(ground, &user, right))).await;
    let allowed = asked.into_iter().collect::<Result<Vec<_>, _>>()?;
    let lacking = RIGHTS.iter().zip(allowed).filter(|(_, is_allowed)| !is_allowed);
    Ok(judge(&lacking.map(|(right, _)| *right).collect::<Vec<_>>(), &user))
}

async fn is_allowed(ground: &Ground, user: &str, right: &Right) -> Result<bool, Unmade> {
    let (verb, group, resource, is_own) = *right;
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: is_own.then(|| ground.place.filmgate.clone()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(user.to_owned()),
        groups: Some(vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", ground.place.filmgate),
            "system:authenticated".to_owned(),
        ]),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews: Api<SubjectAccessReview> = Api::all(ground.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(unmade)?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn judge(lacking: &[Right], user: &str) -> Vec<Verdict> {
    if lacking.is_empty() {
        return vec![Verdict::ok(format!("{user} may do what the extender does"))];
    }
    let words = lacking.iter().map(|(verb, group, resource, _)| match *group {
        "" => format!("{verb} {resource}"),
        group => format!("{verb} {resource}.{group}"),
    });
    let words = words.collect::<Vec<_>>().join(", ");
    let mend = "kubectl apply -f deploy/filmgate.yaml # or: helm upgrade filmgate deploy/helm/filmgate --reuse-values";
    vec![Verdict::fail(format!("{user} may not: {words}"), mend)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::doctor::finding::Level;

    const SHIPPED: &str = include_str!("../../../../deploy/filmgate.yaml");

    /// Of the shipped roles named filmgate: verb, group, resource.
    fn shipped() -> BTreeSet<(String, String, String)> {
        let mut rights = BTreeSet::new();
        for text in SHIPPED.split("\n---\n").filter(|text| text.contains("Role\n")) {
            let role: Value = serde_saphyr::from_str(text).unwrap();
            let is_own = role["metadata"]["name"] == "filmgate";
            for rule in role["rules"].as_array().into_iter().flatten().filter(|_| is_own) {
                let of = |key: &str| rule[key].as_array().unwrap().clone();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                for resource in of("resources") {
                    for verb in of("verbs") {
                        rights.insert((text(&verb), text(&of("apiGroups")[0]), text(&resource)));
                    }
                }
            }
        }
        rights
    }

    #[test]
    fn what_is_asked_about_is_what_is_shipped() {
        let asked = RIGHTS.map(|(verb, group, resource, _)| {
            (verb.to_owned(), group.to_owned(), resource.to_owned())
        });
        let mut shipped = shipped();
        shipped.retain(|(_, _, resource)| resource != "leases");
        assert_eq!(BTreeSet::from(asked), shipped);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let lacking = judge(&[RIGHTS[4], RIGHTS[9]], "someone");
        assert_eq!(lacking[0].level, Level::Fail);
        assert_eq!(
            lacking[0].found,
            "someone may not: create pods/binding, list poddisruptionbudgets.policy"
        );
        assert_eq!(judge(&[], "someone")[0].level, Level::Ok);
    }
}
