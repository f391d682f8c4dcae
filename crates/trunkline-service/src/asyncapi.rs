//! The AsyncAPI 3.0 document of a service: what its namespaces take, answer and tell.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::Service;

/// The schema of a type.
type Form = fn(&mut SchemaGenerator) -> Value;

/// An event of clients, with the forms of its data and of its acknowledgement.
#[derive(Debug, Clone)]
pub(crate) struct Handled {
    pub(crate) event: &'static str,
    forms: Option<[Form; 2]>,
}

impl Handled {
    /// One of which nothing is known but its name.
    pub(crate) fn plain(event: &'static str) -> Self {
        Self { event, forms: None }
    }

    /// One whose data is a `T`, and its acknowledgement an `R`.
    pub(crate) fn of<T: JsonSchema, R: JsonSchema>(event: &'static str) -> Self {
        Self {
            event,
            forms: Some([form::<T>, form::<R>]),
        }
    }
}

fn form<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

/// The document of a service; none where it has no namespaces.
pub(crate) fn document(service: &Service) -> Option<Value> {
    if service.namespaces.is_empty() {
        return None;
    }
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut document = Document {
        schemas: settings.into_generator(),
        operations: Map::new(),
    };
    let mut channels = Map::new();
    for namespace in &service.namespaces {
        let mut channel = Channel::of(&namespace.name);
        for handled in &namespace.handled {
            document.takes(&mut channel, handled);
        }
        for reaction in &service.reactions {
            if let Some(to) = &reaction.rooms
                && to.namespace == namespace.name
            {
                // What a closure makes of an event is not known.
                let schema = to.template.map(|_| reaction.decl.schema());
                document.tells(&mut channel, (to.event, reaction.decl.event_type), schema);
            }
        }
        channels.insert(
            channel.name,
            json!({ "address": channel.address, "messages": channel.messages }),
        );
    }
    Some(json!({
        "asyncapi": "3.0.0",
        "info": { "title": &*service.name, "version": &*service.version },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": document.operations,
        "components": { "schemas": document.schemas.take_definitions(true) },
    }))
}

struct Channel {
    name: String,
    address: String,
    messages: Map<String, Value>,
}

impl Channel {
    fn of(namespace: &str) -> Self {
        let name = match namespace.trim_start_matches('/') {
            "" => "default".to_owned(),
            name => name.replace('/', "-"),
        };
        Self {
            name,
            address: namespace.to_owned(),
            messages: Map::new(),
        }
    }

    /// Adds a message; how it is referred to.
    fn add(&mut self, key: String, name: &str, payload: Option<Value>) -> Value {
        let mut message = json!({ "name": name });
        if let (Some(payload), Some(message)) = (payload, message.as_object_mut()) {
            message.insert("payload".to_owned(), payload);
        }
        let escaped = key.replace('~', "~0").replace('/', "~1");
        let reference = format!("#/channels/{}/messages/{escaped}", self.name);
        self.messages.insert(key, message);
        json!({ "$ref": reference })
    }

    fn reference(&self) -> Value {
        json!({ "$ref": format!("#/channels/{}", self.name) })
    }
}

struct Document {
    schemas: SchemaGenerator,
    operations: Map<String, Value>,
}

impl Document {
    fn takes(&mut self, channel: &mut Channel, handled: &Handled) {
        let event = handled.event;
        let mut forms = handled
            .forms
            .map(|forms| forms.map(|form| form(&mut self.schemas)));
        let [data, answer] = match &mut forms {
            Some(forms) => forms.each_mut().map(|form| Some(form.take())),
            None => [None, None],
        };
        let message = channel.add(event.to_owned(), event, data);
        let mut operation = json!({
            "action": "receive", "channel": channel.reference(), "messages": [message],
        });
        if let Some(answer) = answer {
            let answer = channel.add(format!("{event}.ack"), "acknowledgement", Some(answer));
            let reply = json!({ "channel": channel.reference(), "messages": [answer] });
            if let Some(operation) = operation.as_object_mut() {
                operation.insert("reply".to_owned(), reply);
            }
        }
        let name = format!("{}.{event}", channel.name);
        self.operations.insert(name, operation);
    }

    fn tells(&mut self, channel: &mut Channel, (event, of): (&str, &str), payload: Option<Value>) {
        let message = channel.add(format!("{event}.{of}"), event, payload);
        let operation = json!({
            "action": "send", "channel": channel.reference(), "messages": [message],
            "summary": format!("Tells of `{of}`."),
        });
        let name = format!("{}.{event}.{of}", channel.name);
        self.operations.insert(name, operation);
    }
}
