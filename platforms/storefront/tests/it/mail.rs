//! Mail, over a real connection to a mail server.

use serde_json::json;
use trunkline_testkit::eventually;
use trunkline_testkit::smtp::{Mail, Smtp};

use crate::store::{CONFIG, SOON, TEA_SET, TestStore, User};

async fn server() -> Smtp {
    Smtp::start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

async fn store_with(url: &str) -> TestStore {
    let mail = format!("[service.notification-service]\nsmtp = \"{url}\"\nretry_ms = 20\n");
    TestStore::start_with(&format!("{CONFIG}{mail}")).await
}

fn header<'a>(mail: &'a Mail, name: &str) -> &'a str {
    let head = mail.data.split("\r\n\r\n").next().unwrap();
    let lines: Vec<_> = head
        .split("\r\n")
        .filter_map(|line| line.strip_prefix(&format!("{name}: ")))
        .collect();
    let [value] = lines[..] else {
        panic!("{name} once in\n{head}")
    };
    value
}

/// The only mail that speaks of this.
fn about<'a>(mails: &'a [Mail], text: &str) -> &'a Mail {
    let about: Vec<_> = mails
        .iter()
        .filter(|mail| mail.data.contains(text))
        .collect();
    let [mail] = about[..] else {
        panic!("one about {text} in {mails:#?}")
    };
    mail
}

/// Waits until so many mails were sent, that which welcomes the demo user included.
async fn sent(shop: &TestStore, count: usize) {
    eventually(SOON, async || {
        shop.all_events("notification.sent").await.len() == count
    })
    .await;
}

fn body(mail: &Mail) -> String {
    let (_, body) = mail.data.split_once("\r\n\r\n").unwrap();
    body.replace("\r\n", "\n")
}

async fn order_two(user: &User, key: &str) -> String {
    let order_id = user.order(key, TEA_SET, 2).await.expect(202)["order_id"].clone();
    let order = user.ended(order_id.as_str().unwrap()).await;
    assert_eq!(order["status"], "confirmed");
    order["order_number"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_order_is_one_mail_that_says_all() {
    let server = server().await;
    let shop = store_with(&server.url()).await;
    let number = order_two(&shop.user("demo"), "k").await;
    sent(&shop, 2).await;
    let confirmed = shop.event("order.confirmed").await;

    let mails = server.mails();
    assert_eq!(mails.len(), 2, "the welcome, and {mails:#?}");
    let mail = about(&mails, &number);
    assert_eq!(mail.from, "orders@storefront.example");
    assert_eq!(mail.to, ["demo@storefront.example"]);
    assert_eq!(
        header(mail, "From"),
        "Storefront <orders@storefront.example>"
    );
    assert_eq!(header(mail, "To"), "demo <demo@storefront.example>");
    assert_eq!(
        header(mail, "Subject"),
        format!("Your order {number} is confirmed")
    );
    let id = format!("<{}@storefront.example>", confirmed["id"].as_str().unwrap());
    assert_eq!(header(mail, "Message-ID"), id, "the id of what it tells of");
    let date = jiff::fmt::rfc2822::parse(header(mail, "Date")).unwrap();
    let event: jiff::Timestamp = confirmed["time"].as_str().unwrap().parse().unwrap();
    assert!(date.timestamp().as_second() >= event.as_second());
    assert_eq!(header(mail, "Content-Type"), "text/plain; charset=utf-8");
    assert_eq!(
        body(mail),
        format!(
            "Hello demo,\n\n\
             thank you for your order {number}. It is paid, and we are packing it.\n\n  \
             2 pieces, together 59.98 USD\n\n\
             It goes to:\n\n  123 Main St\n  San Francisco, CA 94105\n  US\n\n\
             Your storefront\n"
        )
    );
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_waits_for_a_server_that_is_down() {
    let server = server().await;
    let address = server.address();
    let shop = store_with(&server.url()).await;
    drop(server);
    let demo = shop.user("demo");
    let numbers = [order_two(&demo, "a").await, order_two(&demo, "b").await];
    // It was tried several times, each time later than before.
    eventually(SOON, async || {
        let tries = shop.all_events("notification.send").await;
        tries.iter().any(|command| command["data"]["attempt"] == 4)
    })
    .await;

    let server = Smtp::start(address).await.unwrap();
    sent(&shop, 3).await;
    let mails = server.mails();
    assert_eq!(mails.len(), 3, "the welcome, and {mails:#?}");
    for number in numbers {
        about(&mails, &number);
    }
    let letters = shop.admin.get("/api/v1/dead-letters").await.expect(200);
    assert_eq!(letters["dead_letters"], json!([]));
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_refused_for_good_is_a_dead_letter_and_holds_up_nothing() {
    let server = server().await;
    server.refuse("ann@exmaple.com");
    let shop = store_with(&server.url()).await;
    let new = json!({
        "username": "ann", "email": "ann@exmaple.com", "password": "correct horse",
    });
    shop.gateway
        .post("/api/auth/register", new)
        .await
        .expect(201);
    let letters = shop.dead_letters(1).await;
    let letter = &letters[0];
    assert_eq!(letter["group"], "notification-service");
    assert_eq!(letter["event"]["type"], "notification.send");
    assert_eq!(letter["attempts"], 1, "there is no use in trying again");
    let reason = letter["error"].to_string();
    for word in ["refused", "550", "ann@exmaple.com", "no mailbox here"] {
        assert!(reason.contains(word), "{word}: {letter:#}");
    }

    // She corrects her address; what comes later goes there, and so does the letter.
    let ann = shop.user("ann");
    eventually(SOON, async || {
        ann.caller.get("/api/users/me").await.status == 200
    })
    .await;
    let change = json!({ "full_name": "Ann Example", "email": "ann@example.com" });
    ann.caller.put("/api/users/me", change).await.expect(200);
    shop.event("user.updated").await;
    let number = order_two(&ann, "k").await;
    sent(&shop, 2).await;
    let replayed = shop
        .admin
        .post("/api/v1/dead-letters/replay", json!({}))
        .await
        .expect(200);
    assert_eq!(replayed["groups"][0]["group"], "notification-service");
    sent(&shop, 3).await;
    shop.dead_letters(0).await;
    let mails = server.mails();
    assert_eq!(about(&mails, &number).to, ["ann@example.com"]);
    let welcome = about(&mails, "Hello Ann Example,\r\n\r\nyour account is open");
    assert_eq!(welcome.to, ["ann@example.com"]);
    shop.stop().await;
}
