//! From settings to a [`Config`]: defaults, and what cannot be meant.

use std::net::SocketAddr;
use std::time::Duration;

use super::agents::{agents, agents_trust};
use super::comfyui::comfyui;
use super::election::leader_election;
use super::external_metrics::external_metrics;
use super::mutual_tls::{KEDA, SERVICE, served};
use super::settings::{FileSettings, ListenFile, ScoringFile, Settings};
use super::text::{Setting, Text};
use super::{Config, ConfigError, LogFormat};
use crate::cluster::version::{NoVersion, Version};
use crate::engine::request::LEAST_VRAM;
use crate::engine::score::Weights;
use crate::engine::{Bytes, PluginAllocation, Policy, StalePolicy};
use crate::extender::{GateSettings, Mode};

const BOOLEANS: [(&str, bool); 2] = [("true", true), ("false", false)];
/// kube-scheduler's HTTP timeout as it is shipped: an answer after it is lost.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn setting<'a>(
    key: &'static str,
    example: &'static str,
    value: Option<&'a Text>,
) -> Setting<'a> {
    Setting { key, example, value }
}

pub(super) fn config(settings: &Settings) -> Result<Config, ConfigError> {
    let file = &settings.file;
    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let format = file.log.as_ref().and_then(|log| log.format.as_ref());
    let (verbs, metrics) = addresses(file.listen.as_ref())?;
    let taken = [("listen.verbs", verbs), ("listen.metrics", metrics)];
    let external_metrics = external_metrics(file.external_metrics.as_ref(), taken)?;
    let external =
        external_metrics.as_ref().map(|served| ("externalMetrics.listen", served.listen));
    let taken = || taken.into_iter().chain(external);
    let keda = served(KEDA, file.keda.as_ref(), taken())?;
    let kedas = keda.as_ref().map(|served| ("keda.listen", served.listen));
    let defaults = GateSettings::default();
    Ok(Config {
        mode: setting("mode", "enforce", file.mode.as_ref()).word(&modes, defaults.mode)?,
        verbs,
        metrics,
        policy: policy(file)?,
        default_vram: default_vram(file)?,
        max_body_bytes: max_body_bytes(file, defaults.max_body_bytes)?,
        filter_timeout: within_http_timeout(
            setting("filterTimeout", "1s", file.filter_timeout.as_ref()),
            defaults.filter_timeout,
        )?,
        bind_timeout: within_http_timeout(
            setting("bindTimeout", "3s", file.bind_timeout.as_ref()),
            defaults.bind_timeout,
        )?,
        scheduler_name: setting("schedulerName", "filmgate", file.scheduler_name.as_ref())
            .text("filmgate")?,
        kube_scheduler_version: kube_scheduler_version(file)?,
        leader_election: leader_election(file.leader_election.as_ref())?,
        service: served(SERVICE, file.service.as_ref(), taken().chain(kedas))?,
        keda,
        external_metrics,
        comfyui: comfyui(file.comfyui.as_ref())?,
        annotate_idle_after: annotate_idle_after(file)?,
        agents: agents(settings)?,
        agents_trust: agents_trust(settings.file.agents.as_ref())?,
        kubeconfig: settings.kubeconfig.clone(),
        log_format: setting("log.format", "json", format).word(&formats, LogFormat::Json)?,
    })
}

fn kube_scheduler_version(file: &FileSettings) -> Result<Option<Version>, ConfigError> {
    let value = file.kube_scheduler_version.as_ref();
    let setting = setting("kubeSchedulerVersion", "v1.34.1", value);
    value
        .map(|Text(text)| text.parse().map_err(|error: NoVersion| setting.wrong(error.to_string())))
        .transpose()
}

fn addresses(listen: Option<&ListenFile>) -> Result<(SocketAddr, SocketAddr), ConfigError> {
    let of = |get: fn(&ListenFile) -> Option<&Text>| listen.and_then(get);
    let verbs = setting("listen.verbs", "127.0.0.1:9110", of(|listen| listen.verbs.as_ref()));
    let metrics = setting("listen.metrics", "0.0.0.0:9111", of(|listen| listen.metrics.as_ref()));
    let allow = setting(
        "listen.allowPlainNonLoopback",
        "false",
        of(|listen| listen.allow_plain_non_loopback.as_ref()),
    );
    let address: SocketAddr =
        verbs.parsed(SocketAddr::from(([127, 0, 0, 1], 9110)), "an address with a port")?;
    if !address.ip().is_loopback() && !allow.word(&BOOLEANS, false)? {
        return Err(verbs.wrong(
            "is not loopback: whoever reaches it can bind pods (listen.allowPlainNonLoopback: true allows it)",
        ));
    }
    Ok((address, metrics.parsed(SocketAddr::from(([0; 4], 9111)), "an address with a port")?))
}

fn policy(file: &FileSettings) -> Result<Policy, ConfigError> {
    let defaults = Policy::default();
    let stale = [("declared", StalePolicy::Declared), ("reject", StalePolicy::Reject)];
    let plugin =
        [("distributed", PluginAllocation::Distributed), ("packed", PluginAllocation::Packed)];
    let duration = |key, example, value: &Option<Text>, default| {
        setting(key, example, value.as_ref()).duration(default)
    };
    let bytes = |key, example, value: &Option<Text>, default| {
        setting(key, example, value.as_ref()).bytes(default)
    };
    let allocation = file.device_plugin.as_ref().and_then(|plugin| plugin.allocation.as_ref());
    Ok(Policy {
        headroom: bytes("headroom", "512Mi", &file.headroom, defaults.headroom)?,
        stale_after: duration("staleAfter", "10s", &file.stale_after, defaults.stale_after)?,
        stale_policy: setting("stalePolicy", "declared", file.stale_policy.as_ref())
            .word(&stale, defaults.stale_policy)?,
        hold_ttl: duration("holdTtl", "30s", &file.hold_ttl, defaults.hold_ttl)?,
        holds: setting("holds", "true", file.holds.as_ref()).word(&BOOLEANS, defaults.holds)?,
        starvation_after: duration(
            "starvationAfter",
            "2m",
            &file.starvation_after,
            defaults.starvation_after,
        )?,
        force_delete_grace: duration(
            "forceDeleteGrace",
            "30s",
            &file.force_delete_grace,
            defaults.force_delete_grace,
        )?,
        unattributed_grace: duration(
            "unattributedGrace",
            "30s",
            &file.unattributed_grace,
            defaults.unattributed_grace,
        )?,
        exclusive_foreign: bytes(
            "exclusiveForeign",
            "1Gi",
            &file.exclusive_foreign,
            defaults.exclusive_foreign,
        )?,
        cuda_context: bytes("cudaContext", "512Mi", &file.cuda_context, defaults.cuda_context)?,
        plugin_allocation: setting("devicePlugin.allocation", "distributed", allocation)
            .word(&plugin, defaults.plugin_allocation)?,
        weights: weights(file.scoring.as_ref())?,
        ..defaults
    })
}

fn weights(scoring: Option<&ScoringFile>) -> Result<Weights, ConfigError> {
    let defaults = Weights::default();
    let of = |get: fn(&ScoringFile) -> Option<&Text>| scoring.and_then(get);
    let tightness = setting("scoring.tightness", "6", of(|one| one.tightness.as_ref()));
    let weights = Weights {
        tightness: tightness.weight(defaults.tightness)?,
        free_after: setting("scoring.freeAfter", "0", of(|one| one.free_after.as_ref()))
            .weight(defaults.free_after)?,
        idleness: setting("scoring.idleness", "3", of(|one| one.idleness.as_ref()))
            .weight(defaults.idleness)?,
        freshness: setting("scoring.freshness", "1", of(|one| one.freshness.as_ref()))
            .weight(defaults.freshness)?,
    };
    if weights.sum() <= 0.0 || !weights.sum().is_finite() {
        return Err(tightness.wrong("and the other weights of scoring give no sum above zero"));
    }
    Ok(weights)
}

fn default_vram(file: &FileSettings) -> Result<Option<Bytes>, ConfigError> {
    let setting = setting("defaultVram", "8Gi", file.default_vram.as_ref());
    match setting.some_bytes()? {
        Some(bytes) if bytes < LEAST_VRAM => {
            Err(setting.wrong(format!("is less than {LEAST_VRAM} and surely a mistake")))
        }
        bytes => Ok(bytes),
    }
}

fn annotate_idle_after(file: &FileSettings) -> Result<Option<Duration>, ConfigError> {
    let after = file.idle_nodes.as_ref().and_then(|nodes| nodes.annotate_after.as_ref());
    let setting = setting("idleNodes.annotateAfter", "10m", after);
    after.map(|_| setting.duration(Duration::ZERO)).transpose()
}

fn max_body_bytes(file: &FileSettings, default: usize) -> Result<usize, ConfigError> {
    const LEAST: Bytes = Bytes::mib(1);
    let setting = setting("maxBodyBytes", "128Mi", file.max_body_bytes.as_ref());
    let bytes = setting.bytes(Bytes::new(default as u64))?;
    if bytes < LEAST {
        return Err(setting.wrong("is less than 1Mi: a call with 5,000 node names would not fit"));
    }
    Ok(usize::try_from(bytes.get()).unwrap_or(usize::MAX))
}

fn within_http_timeout(setting: Setting<'_>, default: Duration) -> Result<Duration, ConfigError> {
    let timeout = setting.duration(default)?;
    if timeout >= HTTP_TIMEOUT {
        return Err(setting.wrong("is not below 5s, when kube-scheduler stops listening"));
    }
    Ok(timeout)
}
