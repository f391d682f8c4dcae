//! Accounts, profiles and wallets.

use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_up_has_a_profile_and_a_wallet() {
    let world = World::start().await;
    let ada = world.user("ada").await;
    let profile = ada.profile().await;
    assert_eq!(profile["userId"], json!(ada.id));
    assert_eq!(profile["username"], "ada");
    assert_eq!(profile["email"], "ada@example.com");
    assert_eq!(profile["statistics"]["played"], 0);

    for login in [
        json!({ "email": "Ada@Example.com", "password": "correct horse" }),
        json!({ "username": "ada", "password": "correct horse" }),
    ] {
        let signed_in = world
            .gateway
            .post("/api/v1/auth/login", login)
            .await
            .expect(200);
        assert_eq!(signed_in["userId"], json!(ada.id));
        let token = signed_in["token"].as_str().unwrap();
        let me = world.gateway.bearing(token).get("/api/v1/users/me").await;
        assert_eq!(me.expect(200)["username"], "ada");
    }
    let renamed = json!({ "displayName": "Countess Lovelace" });
    let renamed = ada
        .caller
        .put("/api/v1/users/me", renamed)
        .await
        .expect(200);
    assert_eq!(renamed["displayName"], "Countess Lovelace");

    let bob = world.user("bob").await;
    let seen = bob
        .caller
        .get(&format!("/api/v1/users/{}", ada.id))
        .await
        .expect(200);
    assert_eq!(
        (&seen["displayName"], seen.get("email")),
        (&json!("Countess Lovelace"), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_account_is_refused() {
    let world = World::start().await;
    let ada = world.user("ada").await;
    let account = |email: &str, name: &str, password: &str| json!({ "email": email, "username": name, "password": password });
    for (body, status, code) in [
        (account("ada", "eve", "correct horse"), 422, "email_invalid"),
        (
            account("eve@example.com", "e", "correct horse"),
            422,
            "username_invalid",
        ),
        (
            account("eve@example.com", "eve<script>", "correct horse"),
            422,
            "username_invalid",
        ),
        (
            account("eve@example.com", "eve", "short"),
            422,
            "password_invalid",
        ),
        (
            account("ADA@example.com", "eve", "correct horse"),
            409,
            "account_taken",
        ),
        (
            account("eve@example.com", "Ada", "correct horse"),
            409,
            "username_taken",
        ),
    ] {
        let answer = world.gateway.post("/api/v1/auth/register", body).await;
        answer.refused(status, code);
    }
    // A registration that was refused keeps no name from its address.
    let eve = world.user("eve").await;
    assert_eq!(eve.profile().await["email"], "eve@example.com");
    for login in [
        json!({ "email": "ada@example.com", "password": "wrong horse" }),
        json!({ "email": "nobody@example.com", "password": "correct horse" }),
        json!({ "password": "correct horse" }),
    ] {
        let answer = world.gateway.post("/api/v1/auth/login", login).await;
        answer.refused(401, "login_refused");
    }
    let answer = world.gateway.get("/api/v1/users/me").await;
    assert_eq!(answer.status, 401);
    let theirs = format!("/api/v1/users/{}/wallets", ada.id);
    eve.caller.get(&theirs).await.refused(403, "wallet_private");
    eve.caller
        .get("/api/v1/users/nobody")
        .await
        .refused(404, "user_unknown");
    for path in [
        "/users/usr_1/wallets",
        "/internal/usernames",
        "/internal/games",
    ] {
        assert_eq!(eve.caller.get(path).await.status, 404, "{path}");
    }
}
