//! The last events that the daemon keeps, and new ones as they come.

use crate::ctl::client::Client;
use crate::ctl::error::CtlError;
use crate::ctl::{print, time};
use crate::dbus::model::CLUSTER;
use crate::dbus::{BUS_NAME, path};
use futures_util::StreamExt;
use owo_colors::OwoColorize;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedVariant};

/// How many past events come first when following.
const TAIL: usize = 10;

/// How many events wait for a terminal that is slow.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// An event as the bus tells it: microseconds since 1970, id, message, fields.
type Event = (u64, String, String, HashMap<String, OwnedVariant>);

/// Prints the events that the daemon keeps; with `follow` the last of them, and then those to come.
pub(crate) async fn run(follow: bool, json: bool) -> Result<(), CtlError> {
    let client = Client::connect().await?;
    // Before the list is asked for, so that none falls between.
    let stream = if follow {
        Some(subscribe(&client).await?)
    } else {
        None
    };
    let past: Vec<Event> = client.call(CLUSTER, "ListEvents", &()).await?;
    let skipped = if follow {
        past.len().saturating_sub(TAIL)
    } else {
        0
    };
    for event in past.iter().skip(skipped) {
        print(&line(event, json))?;
    }
    let Some(mut stream) = stream else {
        return Ok(());
    };
    while let Some(message) = stream.next().await {
        let event: Event = message?.body().deserialize()?;
        if !past
            .iter()
            .any(|it| (it.0, &it.1, &it.2) == (event.0, &event.1, &event.2))
        {
            print(&line(&event, json))?;
        }
    }
    Err(CtlError::Failed(
        "the system bus has closed the connection".to_owned(),
    ))
}

async fn subscribe(client: &Client) -> Result<MessageStream, CtlError> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(BUS_NAME)
        .path(path::ROOT)
        .interface(CLUSTER)
        .member("Event")
        .build()?;
    Ok(MessageStream::for_match_rule(rule, &client.connection, Some(QUEUE)).await?)
}

fn line(event: &Event, json: bool) -> String {
    let (usec, id, message, fields) = event;
    if json {
        let fields: BTreeMap<&str, serde_json::Value> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), to_json(value)))
            .collect();
        let object =
            serde_json::json!({"usec": usec, "id": id, "message": message, "fields": fields});
        return format!("{object}\n");
    }
    let priority = fields.get("PRIORITY").and_then(|it| u8::try_from(it).ok());
    let message = match priority {
        Some(0..=3) => message.red().bold().to_string(),
        Some(4) => message.yellow().to_string(),
        Some(5) => message.bold().to_string(),
        _ => message.clone(),
    };
    format!(
        "{} UTC  {id:<20}  {message}\n",
        time::absolute_millis(*usec)
    )
}

fn to_json(value: &OwnedVariant) -> serde_json::Value {
    if let Ok(number) = u64::try_from(value) {
        return number.into();
    }
    if let Ok(number) = u8::try_from(value) {
        return number.into();
    }
    <&str>::try_from(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    fn event() -> Event {
        let fields = HashMap::from([
            (
                "HA_PEER".to_owned(),
                Variant::from("beta").try_into().unwrap(),
            ),
            (
                "PRIORITY".to_owned(),
                Variant::from(4_u8).try_into().unwrap(),
            ),
        ]);
        (
            1_795_370_472_345_678,
            "node-dead".to_owned(),
            "node beta: is dead".to_owned(),
            fields,
        )
    }

    #[test]
    fn a_line_has_time_identifier_and_text() {
        let line = anstream::adapter::strip_str(&line(&event(), false)).to_string();
        let text = "2026-11-22 18:01:12.345 UTC  node-dead             node beta: is dead\n";
        assert_eq!(line, text);
    }

    #[test]
    fn an_object_has_typed_fields() {
        let object = r#"{"fields":{"HA_PEER":"beta","PRIORITY":4},"id":"node-dead","message":"node beta: is dead","usec":1795370472345678}"#;
        assert_eq!(line(&event(), true), format!("{object}\n"));
    }
}
