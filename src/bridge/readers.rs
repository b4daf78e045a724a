//! Whose pods read a ConfigMap or a Secret, and keep what they read until they are restarted.

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, PodSpec, Volume};

/// What is read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The ConfigMap and the key in it.
    pub config: (&'a str, &'a str),
    /// The Secret and the key in it, where one is kept.
    pub secret: Option<(&'a str, &'a str)>,
}

impl Source<'_> {
    /// Whether such a pod reads it: as a variable, as all variables, or as a file.
    #[must_use]
    pub fn is_read_by(self, pod: &PodSpec) -> bool {
        let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
        let mut volumes = pod.volumes.iter().flatten();
        containers.into_iter().any(|one| self.is_variable_of(one))
            || volumes.any(|volume| self.is_file_of(volume))
    }

    fn is_variable_of(self, container: &Container) -> bool {
        container.env.iter().flatten().any(|variable| self.is_one(variable))
            || container.env_from.iter().flatten().any(|all| self.is_among(all))
    }

    fn is_one(self, variable: &EnvVar) -> bool {
        let Some(from) = &variable.value_from else { return false };
        let config = from.config_map_key_ref.as_ref();
        let secret = from.secret_key_ref.as_ref();
        config.is_some_and(|one| self.config == (&one.name, &one.key))
            || secret.is_some_and(|one| self.secret == Some((&one.name, &one.key)))
    }

    fn is_among(self, all: &EnvFromSource) -> bool {
        let config = all.config_map_ref.as_ref().map(|one| &*one.name);
        let secret = all.secret_ref.as_ref().map(|one| &*one.name);
        self.is_config(config) || self.is_secret(secret)
    }

    fn is_file_of(self, volume: &Volume) -> bool {
        let config = volume.config_map.as_ref().map(|one| &*one.name);
        let secret = volume.secret.as_ref().and_then(|one| one.secret_name.as_deref());
        let projected = volume.projected.iter().flat_map(|one| one.sources.iter().flatten());
        let mut projected = projected.map(|one| {
            let config = one.config_map.as_ref().map(|one| &*one.name);
            (config, one.secret.as_ref().map(|one| &*one.name))
        });
        self.is_config(config)
            || self.is_secret(secret)
            || projected.any(|(config, secret)| self.is_config(config) || self.is_secret(secret))
    }

    fn is_config(self, name: Option<&str>) -> bool {
        name == Some(self.config.0)
    }

    fn is_secret(self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.secret.is_some_and(|(kept, _)| kept == name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SOURCE: Source<'static> = Source {
        config: ("comfyui-config", "COMFYUI_URL"),
        secret: Some(("comfyui-secret", "COMFYUI_URL")),
    };

    fn reads(source: Source<'_>, container: Value, volume: Value) -> bool {
        let spec = json!({"containers": [{"name": "a"}, container], "volumes": [volume]});
        source.is_read_by(&serde_json::from_value(spec).unwrap())
    }

    fn variable(from: Value) -> bool {
        let variable = json!({"name": "URL", "valueFrom": from});
        reads(SOURCE, json!({"name": "b", "env": [variable]}), json!({"name": "v"}))
    }

    fn all(from: Value) -> bool {
        reads(SOURCE, json!({"name": "b", "envFrom": [from]}), json!({"name": "v"}))
    }

    fn file(mut volume: Value) -> bool {
        volume["name"] = json!("v");
        reads(SOURCE, json!({"name": "b"}), volume)
    }

    #[test]
    fn a_variable_is_read_from_that_key() {
        let key = |name: &str, key: &str| json!({"name": name, "key": key});
        assert!(variable(json!({"configMapKeyRef": key("comfyui-config", "COMFYUI_URL")})));
        assert!(variable(json!({"secretKeyRef": key("comfyui-secret", "COMFYUI_URL")})));
        assert!(!variable(json!({"configMapKeyRef": key("comfyui-config", "OTHER")})));
        assert!(!variable(json!({"configMapKeyRef": key("comfyui-secret", "COMFYUI_URL")})));
        assert!(!variable(json!({"secretKeyRef": key("other", "COMFYUI_URL")})));
    }

    #[test]
    fn all_variables_and_files_have_it_among_them() {
        assert!(all(json!({"configMapRef": {"name": "comfyui-config"}})));
        assert!(all(json!({"secretRef": {"name": "comfyui-secret"}})));
        assert!(!all(json!({"secretRef": {"name": "comfyui-config"}})));
        assert!(file(json!({"configMap": {"name": "comfyui-config"}})));
        assert!(file(json!({"secret": {"secretName": "comfyui-secret"}})));
        assert!(file(json!({"projected": {"sources": [{"secret": {"name": "comfyui-secret"}}]}})));
        assert!(!file(json!({"emptyDir": {}})));
        assert!(!file(json!({"secret": {"secretName": "other"}})));
    }

    #[test]
    fn one_that_is_read_before_the_start_counts() {
        let env = json!([{"configMapRef": {"name": "comfyui-config"}}]);
        let spec = json!({"containers": [], "initContainers": [{"name": "i", "envFrom": env}]});
        assert!(SOURCE.is_read_by(&serde_json::from_value(spec).unwrap()));
    }

    #[test]
    fn a_secret_that_is_not_kept_is_nobodys_concern() {
        let source = Source { secret: None, ..SOURCE };
        let env = json!([{"secretRef": {"name": "comfyui-secret"}}]);
        assert!(!reads(source, json!({"name": "b", "envFrom": env}), json!({"name": "v"})));
    }
}
