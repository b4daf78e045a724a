use super::*;
use crate::engine::StalePolicy;

fn problem(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

fn flags(arguments: &[&str]) -> Flags {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    let line = <Line as clap::Parser>::try_parse_from(
        std::iter::once("filmgate").chain(arguments.iter().copied()),
    );
    line.unwrap().flags
}

#[test]
fn the_shipped_file_shows_the_defaults() {
    let shipped = include_str!("../../config/filmgate.yaml");
    assert_eq!(Config::parse(shipped).unwrap(), Config::parse("").unwrap());
}

#[test]
fn the_shipped_file_mentions_every_key() {
    let shipped = include_str!("../../config/filmgate.yaml");
    let unknown = problem("nonsense: 1");
    let (_, keys) = unknown.lines().next().unwrap().split_once("expected one of ").unwrap();
    for key in keys.split(", ") {
        assert!(shipped.contains(&format!("{key}:")), "{key} is not documented");
    }
}

#[test]
fn the_defaults_are_the_engines() {
    let config = Config::parse("").unwrap();
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.gate(), GateSettings::default());
    assert_eq!(config.verbs, "127.0.0.1:9110".parse().unwrap());
    assert_eq!(config.metrics, "0.0.0.0:9111".parse().unwrap());
}

#[test]
fn values_are_read() {
    let config = Config::parse(
        "
mode: observe
headroom: 1Gi
staleAfter: 1m30s
stalePolicy: reject
maxBodyBytes: 4194304
defaultVram: 8Gi
holds: false
scoring: {tightness: 0, freeAfter: 2.5}
agents:
  static:
    - {node: n0, url: 'http://127.0.0.1:9112'}
log: {format: text}
",
    )
    .unwrap();
    assert_eq!((config.mode, config.log_format), (Mode::Observe, LogFormat::Text));
    assert_eq!(config.policy.headroom, Bytes::gib(1));
    assert_eq!(config.policy.stale_after, Duration::from_secs(90));
    assert_eq!(config.policy.stale_policy, StalePolicy::Reject);
    assert_eq!(config.max_body_bytes, 4 << 20);
    assert_eq!(config.default_vram, Some(Bytes::gib(8)));
    assert!(!config.policy.holds);
    assert_eq!(config.policy.weights.tightness, 0.0);
    assert_eq!(config.policy.weights.free_after, 2.5);
    assert!(matches!(config.agents, Agents::Static(agents) if agents.len() == 1));
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    for (text, key) in [
        ("staleAftr: 3s", "staleAftr"),
        ("listen: {verb: '127.0.0.1:1'}", "verb"),
        ("externalMetrics: {certificate: x}", "certificate"),
        ("keda: {caFile: x}", "caFile"),
        ("service: {caFile: x}", "caFile"),
        ("comfyui: {selector: app=comfyui}", "selector"),
        ("scoring: {packing: 1}", "packing"),
        ("agents: {static: [{node: n0, url: 'http://a', port: 1}]}", "port"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(&format!("unknown field `{key}`")), "{problem}");
    }
}

#[test]
fn a_value_that_cannot_be_meant_names_its_key_and_a_right_one() {
    for (text, says) in [
        (
            "mode: enforced",
            r#"key mode: "enforced" is not one of enforce, observe; write for example mode: enforce"#,
        ),
        (
            "headroom: 512MB",
            r#"key headroom: "512MB" is not a quantity of memory; write for example headroom: 512Mi"#,
        ),
        ("headroom: -1Gi", r#"key headroom: "-1Gi" must be above zero"#),
        (
            "staleAfter: 10",
            r#"key staleAfter: "10" is not a duration; write for example staleAfter: 10s"#,
        ),
        ("holdTtl: 0s", r#"key holdTtl: "0s" is not above zero"#),
        ("holdTtl: -5m", r#"key holdTtl: "-5m" is not above zero"#),
        (
            "bindTimeout: 5s",
            r#"key bindTimeout: "5s" is not below 5s, when kube-scheduler stops listening"#,
        ),
        ("defaultVram: 12", r#"key defaultVram: "12" is less than 64 MiB and surely a mistake"#),
        ("maxBodyBytes: 1000", r#"key maxBodyBytes: "1000" is less than 1Mi"#),
        ("holds: maybe", r#"key holds: "maybe" is not one of true, false"#),
        ("schedulerName: ''", r#"key schedulerName: "" is empty"#),
        (
            "listen: {verbs: localhost}",
            r#"key listen.verbs: "localhost" is not an address with a port"#,
        ),
        ("listen: {verbs: '0.0.0.0:9110'}", r#"key listen.verbs: "0.0.0.0:9110" is not loopback"#),
        (
            "idleNodes: {annotateAfter: 0s}",
            r#"key idleNodes.annotateAfter: "0s" is not above zero"#,
        ),
        ("scoring: {idleness: -1}", r#"key scoring.idleness: "-1" is not a number, 0 or above"#),
        (
            "scoring: {tightness: 0, idleness: 0, freshness: 0}",
            r#"key scoring.tightness: "0" and the other weights"#,
        ),
        (
            "devicePlugin: {allocation: spread}",
            r#"key devicePlugin.allocation: "spread" is not one of distributed, packed"#,
        ),
        (
            "externalMetrics: {listen: 9114}",
            r#"key externalMetrics.listen: "9114" is not an address with a port; write for example externalMetrics.listen: 0.0.0.0:9114"#,
        ),
        (
            "externalMetrics: {listen: '0.0.0.0:9111'}",
            r#"key externalMetrics.listen: "0.0.0.0:9111" is the address of listen.metrics, too"#,
        ),
        (
            "externalMetrics: {certificateFile: ''}",
            r#"key externalMetrics.certificateFile: "" is empty"#,
        ),
        (
            "keda: {listen: 9115}",
            r#"key keda.listen: "9115" is not an address with a port; write for example keda.listen: 0.0.0.0:9115"#,
        ),
        (
            "{keda: {listen: '0.0.0.0:9114'}, externalMetrics: {}}",
            r#"key keda.listen: "0.0.0.0:9114" is the address of externalMetrics.listen, too"#,
        ),
        (
            "keda: {listen: '127.0.0.1:9110'}",
            r#"key keda.listen: "127.0.0.1:9110" is the address of listen.verbs, too"#,
        ),
        ("keda: {certificateFile: ''}", r#"key keda.certificateFile: "" is empty"#),
        ("keda: {keyFile: ''}", r#"key keda.keyFile: "" is empty"#),
        ("keda: {clientCaFile: ''}", r#"key keda.clientCaFile: "" is empty"#),
        (
            "{service: {listen: '0.0.0.0:9115'}, keda: {}}",
            r#"key service.listen: "0.0.0.0:9115" is the address of keda.listen, too; write for example service.listen: 0.0.0.0:9116"#,
        ),
        (
            "service: {clientCaFile: ''}",
            r#"key service.clientCaFile: "" is empty; write for example service.clientCaFile: /etc/filmgate/service/ca.crt"#,
        ),
        ("externalMetrics: {keyFile: ''}", r#"key externalMetrics.keyFile: "" is empty"#),
        ("comfyui: {podSelector: ''}", r#"key comfyui.podSelector: "" is empty"#),
        ("comfyui: {podSelector: app on a}", r#"key comfyui.podSelector: "app on a" "#),
        (
            "comfyui: {port: 0}",
            r#"key comfyui.port: "0" is not a port, 1 to 65535; write for example comfyui.port: 8188"#,
        ),
        ("comfyui: {port: 81880}", r#"key comfyui.port: "81880" is not a port"#),
        (
            "comfyui: {pollInterval: 200ms}",
            r#"key comfyui.pollInterval: "200ms" is below 1s; write for example comfyui.pollInterval: 5s"#,
        ),
        (
            "agents: {static: [], endpointSlices: {}}",
            "keys agents.static and agents.endpointSlices exclude each other",
        ),
        ("agents: {static: [{node: n0, url: n0}]}", "agents: the url \"n0\" of node n0"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(says), "{text}: {problem}");
    }
}

#[test]
fn a_lease_is_named_by_whose_it_is_unless_it_has_a_name() {
    let name = |text: &str| Config::parse(text).unwrap().leader_election.name;
    assert_eq!(name(""), "filmgate-kube-scheduler");
    assert_eq!(name("leaderElection: {mode: own}"), "filmgate-extender");
    assert_eq!(name("leaderElection: {mode: own, name: mine}"), "mine");
    let off = Config::parse("leaderElection: {mode: off}").unwrap();
    assert_eq!(off.leader_election.mode, ElectionMode::Off);
}

#[test]
fn external_metrics_are_off_unless_they_are_asked_for() {
    assert_eq!(Config::parse("").unwrap().external_metrics, None);
    let served = Config::parse("externalMetrics: {}").unwrap().external_metrics.unwrap();
    assert_eq!(served.listen, "0.0.0.0:9114".parse().unwrap());
    assert!(served.identity.key.ends_with("external-metrics/tls.key"));
}

#[test]
fn keda_is_answered_where_it_is_asked_for_and_without_tls_on_loopback_alone() {
    assert_eq!(Config::parse("").unwrap().keda, None);
    let served = |text: &str| Config::parse(text).unwrap().keda.unwrap();
    let usual = served("keda: {}");
    assert_eq!(usual.listen, "0.0.0.0:9115".parse().unwrap());
    let tls = usual.tls.unwrap();
    assert!(tls.identity.key.ends_with("keda/tls.key"), "{tls:?}");
    assert!(tls.client_roots.ends_with("keda/ca.crt"), "{tls:?}");
    assert!(served("keda: {listen: '10.0.0.1:9115'}").tls.is_some());
    assert_eq!(served("keda: {listen: '127.0.0.1:9115'}").tls, None);
    assert_eq!(served("keda: {listen: '[::1]:9115'}").tls, None);
    for key in ["certificateFile", "keyFile", "clientCaFile"] {
        let asked = served(&format!("keda: {{listen: '127.0.0.1:9115', {key}: a.pem}}"));
        assert!(asked.tls.is_some(), "{key} is meant");
    }
}

#[test]
fn the_verbs_of_a_service_are_served_without_tls_on_loopback_alone() {
    assert_eq!(Config::parse("").unwrap().service, None);
    let served = |text: &str| Config::parse(text).unwrap().service.unwrap();
    let usual = served("service: {}");
    assert_eq!(usual.listen, "0.0.0.0:9116".parse().unwrap());
    let tls = usual.tls.unwrap();
    assert_eq!(tls.identity.certificate, Path::new("/etc/filmgate/service/tls.crt"));
    assert_eq!(tls.identity.key, Path::new("/etc/filmgate/service/tls.key"));
    assert_eq!(tls.client_roots, Path::new("/etc/filmgate/service/ca.crt"));
    assert!(served("service: {listen: '10.0.0.1:9116'}").tls.is_some());
    assert_eq!(served("service: {listen: '127.0.0.1:9116'}").tls, None);
    for key in ["certificateFile", "keyFile", "clientCaFile"] {
        let asked = served(&format!("service: {{listen: '127.0.0.1:9116', {key}: a.pem}}"));
        assert!(asked.tls.is_some(), "{key} is meant");
    }
}

#[test]
fn comfyuis_are_asked_where_that_is_wanted() {
    assert_eq!(Config::parse("").unwrap().comfyui, None);
    let asked = Config::parse("comfyui: {}").unwrap().comfyui.unwrap();
    assert_eq!(asked.pod_selector.to_string(), "app=comfyui");
    assert_eq!((asked.port, asked.poll_interval), (8188, Duration::from_secs(5)));
}

#[test]
fn only_the_leader_behind_a_service_is_ready() {
    assert!(Config::parse("").unwrap().gate().standby_is_ready);
    assert!(!Config::parse("leaderElection: {mode: own}").unwrap().gate().standby_is_ready);
}

#[test]
fn the_durations_of_an_own_lease_follow_from_each_other() {
    for (election, says) in [
        ("leaseDuration: 1500ms", r#"key leaderElection.leaseDuration: "1500ms" is not in whole"#),
        ("renewDeadline: 15s", r#"key leaderElection.renewDeadline: "15s" is not below"#),
        ("retryPeriod: 6s", r#"key leaderElection.retryPeriod: "6s" is more than half"#),
        ("identity: ''", r#"key leaderElection.identity: "" is empty"#),
    ] {
        let problem = problem(&format!("leaderElection: {{mode: own, {election}}}"));
        assert!(problem.contains(says), "{election}: {problem}");
    }
}

#[test]
fn zero_headroom_may_be_meant() {
    let config = Config::parse("{headroom: 0, cudaContext: 0, exclusiveForeign: '0'}").unwrap();
    assert_eq!(config.policy.headroom, Bytes::ZERO);
}

#[test]
fn a_flag_outranks_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{staleAfter: 3s, holdTtl: 7s, listen: {metrics: '127.0.0.1:1'}}")
        .unwrap();
    let flags =
        flags(&["--stale-after", "4s", "--listen-verbs", "[::1]:2", "--agent", "n0=http://a"]);
    let config = Config::load(Some(file.path()), flags).unwrap();
    assert_eq!(config.policy.stale_after, Duration::from_secs(4));
    assert_eq!(config.policy.hold_ttl, Duration::from_secs(7));
    assert_eq!(config.verbs, "[::1]:2".parse().unwrap());
    assert_eq!(config.metrics, "127.0.0.1:1".parse().unwrap());
    assert!(matches!(config.agents, Agents::Static(agents) if agents.len() == 1));
}

#[test]
fn every_flag_may_come_from_the_environment() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    let command = <Line as clap::CommandFactory>::command();
    for argument in command.get_arguments().filter(|one| one.get_id() != "help") {
        let variable = argument.get_env().unwrap_or_else(|| panic!("{argument}")).to_string_lossy();
        assert!(variable.starts_with("FILMGATE_"), "{variable}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problem = Config::load(Some(Path::new("/nowhere/x.yaml")), Flags::default());
    let problem = problem.unwrap_err().to_string();
    assert!(problem.starts_with("cannot read the config file /nowhere/x.yaml"), "{problem}");
}
