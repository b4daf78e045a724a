use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointPort};

use super::*;

fn slice(port: i32, endpoints: &[(&str, &str, Option<bool>)]) -> EndpointSlice {
    let endpoint = |(node, address, ready): &(&str, &str, Option<bool>)| Endpoint {
        addresses: vec![(*address).to_owned()],
        node_name: (!node.is_empty()).then(|| (*node).to_owned()),
        conditions: Some(EndpointConditions { ready: *ready, ..EndpointConditions::default() }),
        ..Endpoint::default()
    };
    let named = |name: &str, port| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(port),
        ..EndpointPort::default()
    };
    EndpointSlice {
        endpoints: Some(endpoints.iter().map(endpoint).collect()),
        ports: Some(vec![named("metrics", 1), named("readings", port)]),
        ..EndpointSlice::default()
    }
}

fn found(slices: &[EndpointSlice]) -> Vec<String> {
    found_at("readings", false, slices)
}

fn found_at(port: &str, is_tls: bool, slices: &[EndpointSlice]) -> Vec<String> {
    let selector = SliceSelector {
        namespace: "filmgate".into(),
        labels: String::new(),
        port: port.into(),
        is_tls,
    };
    let agents = endpoints(slices, &selector);
    agents.iter().map(|agent| format!("{} {}", agent.node, agent.url)).collect()
}

#[test]
fn finds_ready_agents_by_node() {
    let slices = [
        slice(9112, &[("n1", "10.0.0.2", Some(true)), ("n0", "10.0.0.1", None)]),
        slice(
            9200,
            &[
                ("n2", "fd00::7", Some(true)),
                ("n3", "10.0.0.4", Some(false)),
                ("", "10.0.0.5", None),
            ],
        ),
    ];
    assert_eq!(
        found(&slices),
        ["n0 http://10.0.0.1:9112/", "n1 http://10.0.0.2:9112/", "n2 http://[fd00::7]:9200/"]
    );
}

#[test]
fn of_two_agents_on_a_node_the_choice_is_stable() {
    let one = slice(9112, &[("n0", "10.0.0.9", None)]);
    let other = slice(9112, &[("n0", "10.0.0.3", None)]);
    let expected = ["n0 http://10.0.0.3:9112/"];
    assert_eq!(found(&[one.clone(), other.clone()]), expected);
    assert_eq!(found(&[other, one]), expected);
}

#[test]
fn a_slice_without_the_port_has_no_agents() {
    assert!(found_at("other", false, &[slice(1, &[("n0", "10.0.0.1", None)])]).is_empty());
}

#[test]
fn where_agents_prove_themselves_they_are_asked_by_tls() {
    let slices = [slice(9112, &[("n0", "10.0.0.1", None)])];
    assert_eq!(found_at("readings", true, &slices), ["n0 https://10.0.0.1:9112/"]);
}

#[test]
fn a_listed_agent_needs_a_node_and_an_http_url() {
    let error = |node, url| listed([(node, url)]).unwrap_err().to_string();
    assert!(error("", "http://127.0.0.1:1").contains("node: <name"));
    assert!(error("n0", "127.0.0.1:9112").contains("http://"), "{}", error("n0", "127.0.0.1:9112"));
    assert!(error("n0", "ftp://10.0.0.1:9112").contains("must begin with http://"));
    let twice = listed([("n0", "http://127.0.0.1:1"), ("n0", "http://127.0.0.1:2")]);
    assert_eq!(twice, Err(EndpointError::Twice("n0".into())));
    assert_eq!(
        listed([("n0", "http://127.0.0.1:1"), ("n1", "http://127.0.0.1:1")]).unwrap().len(),
        2
    );
}
