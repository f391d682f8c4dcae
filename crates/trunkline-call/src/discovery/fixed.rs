//! Addresses that are known from the start.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use trunkline_core::{Error, Result};

use super::{Discovery, Instance};

/// A list of addresses that stays as it is.
#[derive(Debug, Clone)]
pub struct Fixed(Vec<Instance>);

impl Fixed {
    /// The instances themselves.
    pub fn new(instances: Vec<Instance>) -> Self {
        Self(instances)
    }

    /// Addresses such as `http://host:port`.
    ///
    /// # Errors
    /// `InvalidInput` naming the one that is none, or when there is none at all.
    pub fn urls<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self> {
        let urls = urls.into_iter();
        let list: Vec<_> = urls
            .map(|url| Instance::from_url(url.as_ref()))
            .collect::<Result<_>>()?;
        if list.is_empty() {
            let text = "expected at least one address such as http://127.0.0.1:3002";
            return Err(Error::invalid("address_missing", text));
        }
        Ok(Self(list))
    }

    /// What environment variables say of a service.
    ///
    /// # Shape
    /// Of `inventory-service`, the first that is set of: `INVENTORY_SERVICE_URL`, addresses with commas between
    /// them; `INVENTORY_SERVICE_SERVICE_HOST` with `..._PORT`, and `INVENTORY_SERVICE_HOST` with `..._PORT`, as
    /// Kubernetes sets them for the services `inventory-service` and `inventory`. Of `inventory` alike:
    /// `INVENTORY_URL`, `INVENTORY_SERVICE_URL`, `INVENTORY_SERVICE_HOST` with `..._PORT`.
    ///
    /// # Errors
    /// `NotFound` naming the variable that was expected; `InvalidInput` naming the one that holds no address.
    pub fn from_variables(
        service: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let name = service.to_ascii_uppercase().replace(['-', '.'], "_");
        let is_service = name.ends_with("_SERVICE");
        let set = |name: String| {
            let value = variable(&name).filter(|value| !value.trim().is_empty());
            value.map(|value| (name, value))
        };
        let short = (!is_service).then(|| format!("{name}_SERVICE_URL"));
        let urls = [Some(format!("{name}_URL")), short];
        if let Some((key, urls)) = urls.into_iter().flatten().find_map(set) {
            let urls = urls.split(',').filter(|url| !url.trim().is_empty());
            return Self::urls(urls).map_err(|error| error.with("variable", key));
        }
        let short = is_service.then(|| name.clone());
        let places = [Some(format!("{name}_SERVICE")), short];
        for place in places.into_iter().flatten() {
            let Some((key, host)) = set(format!("{place}_HOST")) else {
                continue;
            };
            let named = |error: Error| error.with("variable", &key);
            let port = variable(&format!("{place}_PORT"));
            let port = port.and_then(|port| port.trim().parse().ok());
            let port = port.ok_or_else(|| {
                let text = format!("expected {place}_PORT to be a port");
                named(Error::invalid("address_invalid", text))
            })?;
            return Ok(Self(vec![Instance::at(host.trim(), port).map_err(named)?]));
        }
        let text = "expected an environment variable that says where the service is";
        Err(Error::not_found("address_missing", text).with("variable", format!("{name}_URL")))
    }
}

impl Discovery for Fixed {
    fn watch(&self, _: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        let list = self.0.clone();
        stream::iter([Ok(list)]).chain(stream::pending()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str, set: &[(&str, &str)]) -> Result<Vec<String>> {
        let variable = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let fixed = Fixed::from_variables(service, variable)?;
        Ok(fixed.0.iter().map(Instance::url).collect())
    }

    #[test]
    fn variables_say_where_a_service_is() {
        let url = [("INVENTORY_SERVICE_URL", "http://a:1, http://b:2,")];
        let both = ["http://a:1", "http://b:2"];
        assert_eq!(of("inventory-service", &url).unwrap(), both);
        assert_eq!(of("inventory", &url).unwrap(), both);
        let cluster = [
            ("INVENTORY_SERVICE_HOST", "10.0.0.7"),
            ("INVENTORY_SERVICE_PORT", "7001"),
        ];
        assert_eq!(of("inventory", &cluster).unwrap(), ["http://10.0.0.7:7001"]);
        let there = of("inventory-service", &cluster).unwrap();
        assert_eq!(there, ["http://10.0.0.7:7001"]);
        let own = [
            ("INVENTORY_SERVICE_SERVICE_HOST", "fd00::7"),
            ("INVENTORY_SERVICE_SERVICE_PORT", "7001"),
            ("INVENTORY_SERVICE_HOST", "10.0.0.7"),
        ];
        let there = of("inventory-service", &own).unwrap();
        assert_eq!(there, ["http://[fd00::7]:7001"]);
    }

    #[test]
    fn a_variable_that_is_missing_or_wrong_is_named() {
        let said = |set: &[(&str, &str)]| of("a-service", set).unwrap_err().to_string();
        assert!(said(&[]).contains("A_SERVICE_URL"));
        assert!(said(&[("A_SERVICE_URL", "here")]).contains("A_SERVICE_URL"));
        assert!(said(&[("A_SERVICE_URL", ",")]).contains("at least one"));
        // What Kubernetes sets for a service named `a-service-port` is no port.
        let wrong = [("A_SERVICE_HOST", "h"), ("A_SERVICE_PORT", "tcp://h:1")];
        assert!(said(&wrong).contains("A_SERVICE_PORT"));
    }

    #[tokio::test]
    async fn the_list_comes_once_and_the_watch_stays_open() {
        let fixed = Fixed::urls(["http://a:1"]).unwrap();
        let mut watch = fixed.watch("any");
        assert_eq!(watch.next().await.unwrap().unwrap().len(), 1);
        assert!(futures::poll!(watch.next()).is_pending());
    }
}
