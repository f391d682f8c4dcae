//! The manifests of a platform for Kubernetes: each service, and the gateway, in a deployment of its own.
//!
//! They say what the platform's code and configuration say already: who calls whom (network policies), where each listens, when it is alive and
//! ready, how long it may take to end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trunkline_core::{Error, Result};

use crate::config::place::{GATEWAY, variable};
use crate::platform::check_shared;
use crate::{Config, Platform, Service};

/// Where a service listens in its pod, unless its `url` names another port.
const PORT: u16 = 7_000;
/// Where the configuration and the data folder are in a container.
const CONFIG: &str = "/etc/trunkline";
const DATA: &str = "/var/lib/trunkline";
/// Nobody in particular; the user of the images without a distribution.
const USER: u32 = 65_532;

/// What is not in the platform's own configuration.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// The image, whose entry point is the platform's program.
    pub image: String,
    /// The namespace.
    pub namespace: String,
    /// How many pods each service has at least, and at most.
    pub replicas: (u32, u32),
    /// Files of the data folder that all processes share, such as the key of users' tokens. The secret `PLATFORM-keys` has them.
    pub keys: Vec<String>,
    /// The text of the configuration file. The secret `PLATFORM-config` has it, for a URL in it may have a password.
    pub text: String,
}

impl Platform {
    /// Its manifests, as one text of YAML documents.
    ///
    /// # Errors
    /// `InvalidInput` for what [`Platform::check`] finds, for a bus or stores that processes on several machines can't share, and for a
    /// service's `url` that is no address.
    pub fn kubernetes(&self, config: &Config, wanted: &Kubernetes) -> Result<String> {
        self.check()?;
        check_shared(config)?;
        if !config.store.starts_with("postgres") {
            let text =
                "a pod keeps no files: expected a `store` that pods share, such as postgres://";
            return Err(Error::invalid("store_not_shared", text).with("store", &config.store));
        }
        let parts = self.parts(config)?;
        let manifests = Manifests {
            platform: &self.name,
            config,
            wanted,
            parts: &parts,
        };
        let documents = manifests.all().into_iter().map(|document| {
            yaml_serde::to_string(&document)
                .map_err(|error| Error::internal("a manifest is not YAML").with_source(error))
        });
        let documents: Vec<String> = documents.collect::<Result<_>>()?;
        Ok(format!("---\n{}", documents.join("---\n")))
    }

    /// The services and the gateway, each with whom it calls.
    fn parts(&self, config: &Config) -> Result<BTreeMap<String, Part>> {
        let mut parts = BTreeMap::new();
        for service in &self.services {
            let name = service.name.to_string();
            let port = port_of(config, &name)?;
            parts.insert(name, Part::of(service, port));
        }
        let led_to: BTreeSet<String> = parts.keys().cloned().collect();
        // A platform's program adds its gateway when it starts; the trail and the console run with it in any case.
        let gateway = Part {
            port: config.gateway.address.port(),
            // The console looks into every service.
            calls: led_to,
            leaves: false,
        };
        parts.insert(GATEWAY.to_owned(), gateway);
        Ok(parts)
    }
}

fn port_of(config: &Config, service: &str) -> Result<u16> {
    let Some(url) = config.url_of(service)? else {
        return Ok(PORT);
    };
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| {
        Error::invalid(
            "config_invalid",
            "expected an address such as http://wallet:7001",
        )
        .with("section", format!("service.{service}"))
        .with_source(error)
    })?;
    Ok(uri.port_u16().unwrap_or(PORT))
}

/// A part of the platform that has pods of its own.
struct Part {
    port: u16,
    calls: BTreeSet<String>,
    /// It calls what is outside of the platform.
    leaves: bool,
}

impl Part {
    fn of(service: &Service, port: u16) -> Self {
        Self {
            port,
            calls: service.calls.iter().map(ToString::to_string).collect(),
            leaves: !service.external.is_empty(),
        }
    }
}

struct Manifests<'a> {
    platform: &'a str,
    config: &'a Config,
    wanted: &'a Kubernetes,
    parts: &'a BTreeMap<String, Part>,
}

impl Manifests<'_> {
    fn all(&self) -> Vec<Value> {
        let mut all = vec![self.secret(), self.places(), self.nobody()];
        for (name, part) in self.parts {
            all.push(self.deployment(name, part));
            all.push(self.service(name, part));
            all.push(self.scaler(name));
            all.push(self.disruption(name));
            all.push(self.policy(name, part));
        }
        all
    }

    fn meta(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.wanted.namespace,
            "labels": { "app": name, "app.kubernetes.io/part-of": self.platform },
        })
    }

    fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.meta(&format!("{}-config", self.platform)),
            "stringData": { "trunkline.toml": self.wanted.text },
        })
    }

    /// Where each service is found by the others: environment variables over what the file says.
    fn places(&self) -> Value {
        let scheme = self.config.scheme();
        let services = self.parts.iter().filter(|(name, _)| *name != GATEWAY);
        let urls = services.map(|(name, part)| {
            let url = format!(
                "{scheme}://{name}.{}.svc:{}",
                self.wanted.namespace, part.port
            );
            (variable(name, "URL"), json!(url))
        });
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.meta(&format!("{}-places", self.platform)),
            "data": urls.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// What no other policy allows is not allowed.
    fn nobody(&self) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.meta(&format!("{}-nobody", self.platform)),
            "spec": {
                "podSelector": { "matchLabels": { "app.kubernetes.io/part-of": self.platform } },
                "policyTypes": ["Ingress", "Egress"],
            },
        })
    }

    fn deployment(&self, name: &str, part: &Part) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.meta(name),
            "spec": {
                "selector": { "matchLabels": { "app": name } },
                // Old and new side by side; nobody leaves before the next is ready.
                "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
                "template": {
                    "metadata": { "labels": { "app": name, "app.kubernetes.io/part-of": self.platform } },
                    "spec": self.pod(name, part),
                },
            },
        })
    }

    fn pod(&self, name: &str, part: &Part) -> Value {
        let keys = self.wanted.keys.iter().map(|file| {
            json!({ "name": "keys", "mountPath": format!("{DATA}/{file}"), "subPath": file, "readOnly": true })
        });
        let mounts: Vec<Value> = [
            json!({ "name": "data", "mountPath": DATA }),
            json!({ "name": "config", "mountPath": CONFIG, "readOnly": true }),
        ]
        .into_iter()
        .chain(keys)
        .collect();
        let secret = |name: &str| json!({ "secretName": format!("{}-{name}", self.platform), "defaultMode": 0o440 });
        json!({
            "terminationGracePeriodSeconds": self.config.shutdown_seconds.saturating_mul(3).saturating_add(10),
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": name,
                "image": self.wanted.image,
                "args": ["run", name, "--quiet", "--config", format!("{CONFIG}/trunkline.toml"), "--data", DATA],
                "envFrom": [{ "configMapRef": { "name": format!("{}-places", self.platform) } }],
                "env": self.environment(name, part),
                "ports": [{ "name": "http", "containerPort": part.port }],
                "startupProbe": probe("/health/live", (1, 120)),
                "livenessProbe": probe("/health/live", (10, 3)),
                "readinessProbe": probe("/health/ready", (2, 2)),
                "resources": {
                    "requests": { "cpu": "100m", "memory": "64Mi" },
                    "limits": { "memory": "512Mi" },
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
                "volumeMounts": mounts,
            }],
            "volumes": [
                { "name": "data", "emptyDir": {} },
                { "name": "config", "secret": secret("config") },
                { "name": "keys", "secret": secret("keys") },
            ],
        })
    }

    fn environment(&self, name: &str, part: &Part) -> Value {
        let listens = match name {
            GATEWAY => "TRUNKLINE__GATEWAY__ADDRESS".to_owned(),
            name => variable(name, "LISTEN"),
        };
        let token = json!({
            "secretKeyRef": { "name": format!("{}-keys", self.platform), "key": "admin.token", "optional": true },
        });
        json!([
            { "name": listens, "value": format!("0.0.0.0:{}", part.port) },
            // Reached by `kubectl port-forward` alone.
            { "name": "TRUNKLINE__ADMIN__ADDRESS", "value": "127.0.0.1:9900" },
            { "name": "TRUNKLINE__ADMIN__TOKEN", "valueFrom": token },
        ])
    }

    fn service(&self, name: &str, part: &Part) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.meta(name),
            "spec": {
                "type": "ClusterIP",
                "selector": { "app": name },
                "ports": [{ "name": "http", "protocol": "TCP", "port": part.port, "targetPort": part.port }],
            },
        })
    }

    fn scaler(&self, name: &str) -> Value {
        let (least, most) = self.wanted.replicas;
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": self.meta(name),
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "minReplicas": least,
                "maxReplicas": most,
                "metrics": [{
                    "type": "Resource",
                    "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } },
                }],
            },
        })
    }

    fn disruption(&self, name: &str) -> Value {
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self.meta(name),
            "spec": { "maxUnavailable": 1, "selector": { "matchLabels": { "app": name } } },
        })
    }

    /// Whoever is declared to call it may, and it may call whom it is declared to call, the servers, and names.
    fn policy(&self, name: &str, part: &Part) -> Value {
        let port = json!([{ "protocol": "TCP", "port": part.port }]);
        let pods = |names: &mut dyn Iterator<Item = &String>| -> Vec<Value> {
            names
                .map(|name| json!({ "podSelector": { "matchLabels": { "app": name } } }))
                .collect()
        };
        let callers = self
            .parts
            .iter()
            .filter(|(_, other)| other.calls.contains(name));
        let from = pods(&mut callers.map(|(name, _)| name));
        let ingress = match (name, from.is_empty()) {
            (GATEWAY, _) => json!([{ "ports": port }]),
            (_, true) => json!([]),
            (_, false) => json!([{ "from": from, "ports": port }]),
        };
        let mut egress = vec![json!({ "ports": [
            { "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 },
        ] })];
        egress.extend(part.calls.iter().filter_map(|called| {
            let port = self.parts.get(called)?.port;
            let to = pods(&mut [called].into_iter());
            Some(json!({ "to": to, "ports": [{ "protocol": "TCP", "port": port }] }))
        }));
        let servers: Vec<Value> = self
            .servers()
            .into_iter()
            .map(|port| json!({ "protocol": "TCP", "port": port }))
            .collect();
        egress.push(json!({ "ports": servers }));
        if part.leaves {
            // Where the world outside is, nobody has declared; a policy knows addresses and no names.
            egress.push(json!({}));
        }
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.meta(name),
            "spec": {
                "podSelector": { "matchLabels": { "app": name } },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": egress,
            },
        })
    }

    /// The ports of the servers that every process uses.
    fn servers(&self) -> BTreeSet<u16> {
        let otlp = self.config.telemetry.otlp.as_deref();
        let topics = self.config.topics.values().map(|url| &**url);
        [&*self.config.bus, &*self.config.store]
            .into_iter()
            .chain(topics)
            .chain(otlp)
            .filter_map(server_port)
            .collect()
    }
}

fn probe(path: &str, (period, failures): (u32, u32)) -> Value {
    json!({
        "httpGet": { "path": path, "port": "http" },
        "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 2,
    })
}

/// The port of a server's URL, or the one that its scheme stands for.
fn server_port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let given = host
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    given.or(match scheme {
        "postgres" | "postgresql" => Some(5_432),
        "redis" | "rediss" | "redis+pubsub" | "rediss+pubsub" => Some(6_379),
        "amqp" => Some(5_672),
        "amqps" => Some(5_671),
        "kafka" => Some(9_092),
        "nats" | "tls" => Some(4_222),
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use axum::Json;

    use super::*;
    use crate::Cx;

    async fn answer(_: Cx) -> Result<Json<()>> {
        Ok(Json(()))
    }

    fn shop() -> Platform {
        let stock = Service::new("stock-service").get("/stock/{sku}", answer);
        let orders = Service::new("order-service").calls("stock-service");
        let mail = Service::new("mail-service").calls_external("smtp", "https://mail.example");
        Platform::new("shop").services([stock, orders, mail])
    }

    fn config() -> Config {
        let mut config = Config::default();
        config.bus = "nats://nats".to_owned();
        config.store = "postgres://shop:word@db:5433/shop?schema={service}".to_owned();
        let section = config
            .service
            .entry("stock-service".to_owned())
            .or_default();
        section.insert("url".to_owned(), "http://stock-service:3002".into());
        config
    }

    fn wanted() -> Kubernetes {
        Kubernetes {
            image: "shop:1".to_owned(),
            namespace: "shops".to_owned(),
            replicas: (2, 10),
            keys: vec!["token.secret".to_owned()],
            text: "bus = \"nats://nats\"\n".to_owned(),
        }
    }

    fn documents(text: &str) -> Vec<Value> {
        let documents = text.split("---\n").filter(|document| !document.is_empty());
        documents
            .map(|document| yaml_serde::from_str(document).unwrap())
            .collect()
    }

    fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
        let is = |one: &&Value| one["kind"] == kind && one["metadata"]["name"] == name;
        all.iter()
            .find(is)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn who_is_declared_to_call_may_and_nobody_else() {
        let all = documents(&shop().kubernetes(&config(), &wanted()).unwrap());
        let policy = find(&all, "NetworkPolicy", "stock-service");
        let from = &policy["spec"]["ingress"][0]["from"];
        let names: Vec<&str> = from
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["podSelector"]["matchLabels"]["app"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["gateway", "order-service"]);
        assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], 3_002);
        let ports = policy["spec"]["egress"].as_array().unwrap().last().unwrap();
        assert_eq!(ports["ports"][0]["port"], 4_222);
        assert_eq!(ports["ports"][1]["port"], 5_433);
        let mail = find(&all, "NetworkPolicy", "mail-service");
        assert_eq!(
            mail["spec"]["egress"].as_array().unwrap().last().unwrap(),
            &json!({})
        );
        let gateway = find(&all, "NetworkPolicy", "gateway");
        assert!(gateway["spec"]["ingress"][0]["from"].is_null());
    }

    #[test]
    fn each_part_runs_alone_and_finds_the_others() {
        let all = documents(&shop().kubernetes(&config(), &wanted()).unwrap());
        let places = &find(&all, "ConfigMap", "shop-places")["data"];
        assert_eq!(
            places["TRUNKLINE__SERVICE__STOCK_SERVICE__URL"],
            "http://stock-service.shops.svc:3002"
        );
        assert_eq!(
            places["TRUNKLINE__SERVICE__ORDER_SERVICE__URL"],
            "http://order-service.shops.svc:7000"
        );
        let pod = &find(&all, "Deployment", "stock-service")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["args"][1], "stock-service");
        assert_eq!(container["env"][0]["value"], "0.0.0.0:3002");
        assert_eq!(
            container["readinessProbe"]["httpGet"]["path"],
            "/health/ready"
        );
        let service = find(&all, "Service", "stock-service");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 3_002);
        // Its own manifests are what the program understands.
        assert_eq!(
            find(&all, "Secret", "shop-config")["stringData"]["trunkline.toml"],
            wanted().text
        );
    }

    #[test]
    fn what_pods_can_not_share_is_refused() {
        let refused = |config: &Config| shop().kubernetes(config, &wanted()).unwrap_err();
        assert_eq!(refused(&Config::default()).code(), "bus_not_shared");
        let mut files = config();
        files.store = Config::default().store;
        assert_eq!(refused(&files).code(), "store_not_shared");
        let mut odd = config();
        let section = odd.service.entry("stock-service".to_owned()).or_default();
        section.insert("url".to_owned(), "http://a b".into());
        assert_eq!(refused(&odd).code(), "config_invalid");
    }
}
