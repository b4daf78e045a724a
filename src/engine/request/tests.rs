use super::*;

fn container(name: &str, gpus: u32) -> ContainerFacts {
    ContainerFacts {
        name: name.into(),
        kind: ContainerKind::App,
        gpus: vec![("nvidia.com/gpu".into(), gpus)],
        steered_by: None,
    }
}

fn annotations<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn read(
    containers: &[ContainerFacts],
    pairs: &[(&str, &str)],
) -> Result<Option<GpuAsk>, BadRequest> {
    let annotations =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    read_ask(containers, &annotations, None)
}

#[test]
fn a_pod_without_a_gpu_asks_nothing_whatever_it_declares() {
    let plain = ContainerFacts { gpus: Vec::new(), ..container("main", 0) };
    assert_eq!(read(&[plain], &[(VRAM_ANNOTATION, "nonsense")]), Ok(None));
}

#[test]
fn refuses_a_declaration_that_cannot_be_meant_and_says_how_to_mend_it() {
    for (value, says) in [
        ("12GiB", "\"12GiB\" is not a quantity of memory"),
        ("-1", "\"-1\" must be above zero"),
        ("0", "\"0\" must be above zero"),
        ("12", "\"12\" is 12 bytes, less than 64 MiB and surely a mistake"),
        ("99999999999999999999", "is larger than any GPU"),
        ("12345678901234567890", "is larger than any GPU"),
    ] {
        let error =
            read(&[container("main", 1)], &[(VRAM_ANNOTATION, value)]).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains("annotation filmgate.dev/vram:"), "{error}");
        assert!(error.ends_with("write for example 12Gi"), "{error}");
    }
}

#[test]
fn a_message_does_not_repeat_a_huge_value() {
    let huge = "9".repeat(200_000);
    let error = read(&[container("main", 1)], &[(VRAM_ANNOTATION, &huge)]).unwrap_err().to_string();
    assert!(error.len() < 200, "{}", error.len());
}

#[test]
fn a_container_has_its_own_declaration_or_the_pods() {
    let pod = [container("comfy", 1), container("upscale", 2)];
    let ask = read(&pod, &[(VRAM_ANNOTATION, "8Gi"), ("filmgate.dev/vram.comfy", "12Gi")]);
    let vram: Vec<_> = ask.unwrap().unwrap().shares.iter().map(|share| share.vram).collect();
    assert_eq!(vram, [Vram::Declared(Bytes::gib(12)), Vram::Declared(Bytes::gib(8))]);
}

#[test]
fn a_declaration_for_a_container_without_a_gpu_is_a_mistake() {
    let error = read(&[container("comfy", 1)], &[("filmgate.dev/vram.confy", "12Gi")]);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("\"confy\"") && text.contains("(those that do: comfy)"), "{text}");
}

#[test]
fn the_default_replaces_exclusive_and_yields_to_a_declaration() {
    let pod = [container("main", 1)];
    let vram = |pairs, default| read_ask(&pod, &pairs, default).unwrap().unwrap().shares[0].vram;
    assert_eq!(vram(annotations([]), None), Vram::Exclusive);
    assert_eq!(vram(annotations([]), Some(Bytes::gib(6))), Vram::Default(Bytes::gib(6)));
    let declared = annotations([(VRAM_ANNOTATION, "8Gi")]);
    assert_eq!(vram(declared, Some(Bytes::gib(6))), Vram::Declared(Bytes::gib(8)));
}

#[test]
fn steered_means_an_annotation_about_this_container_alone() {
    let by = |annotation: &str, name| ContainerFacts {
        steered_by: Some(annotation.into()),
        ..container(name, 1)
    };
    let steered = |pod: &[ContainerFacts]| read(pod, &[]).unwrap().unwrap().is_steered();
    assert!(steered(&[by("filmgate.dev/gpu", "a")]));
    assert!(steered(&[by("filmgate.dev/gpu.a", "a"), by("filmgate.dev/gpu.b", "b")]));
    assert!(!steered(&[by("filmgate.dev/gpu", "a"), by("filmgate.dev/gpu", "b")]));
    assert!(!steered(&[by("filmgate.dev/gpu.b", "a")]));
    assert!(!steered(&[by("example.com/gpu", "a")]));
    assert!(!steered(&[container("a", 1)]));
}

#[test]
fn init_containers_run_alone_and_sidecars_beside_the_others() {
    let kind = |kind, name, gpus| ContainerFacts { kind, ..container(name, gpus) };
    let pod = [
        kind(ContainerKind::Init, "download", 3),
        kind(ContainerKind::Sidecar, "probe", 1),
        kind(ContainerKind::App, "main", 1),
    ];
    let ask = read(&pod, &[]).unwrap().unwrap();
    assert_eq!((ask.shares.len(), ask.early.len(), ask.devices()), (2, 1, 3));
}

#[test]
fn a_sidecar_that_runs_already_adds_to_an_init_containers_need() {
    let kind = |kind, name| ContainerFacts { kind, ..container(name, 1) };
    let pod = [
        kind(ContainerKind::Init, "first"),
        kind(ContainerKind::Sidecar, "probe"),
        kind(ContainerKind::Init, "second"),
        kind(ContainerKind::App, "main"),
    ];
    let declared = [
        ("filmgate.dev/vram.first", "4Gi"),
        ("filmgate.dev/vram.probe", "2Gi"),
        ("filmgate.dev/vram.second", "8Gi"),
        ("filmgate.dev/vram.main", "1Gi"),
    ];
    let ask = read(&pod, &declared).unwrap().unwrap();
    let early: Vec<_> = ask.early.iter().map(|share| share.vram).collect();
    assert_eq!(early, [Vram::Declared(Bytes::gib(4)), Vram::Declared(Bytes::gib(10))]);
    assert_eq!(ask.sum_per_gpu(), Some(Bytes::gib(10)));
}
