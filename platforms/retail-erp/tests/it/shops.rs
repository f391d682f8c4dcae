//! Shops, machines and the catalogue, as the staff keeps them.

use retail_erp::demo;
use serde_json::json;

use crate::erp::TestErp;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_shop_gets_a_machine_and_sells() {
    let erp = TestErp::start().await;
    let (staff, customer) = (erp.staff(), erp.customer());
    let shop = json!({ "name": "Airport" });
    customer
        .put("/api/shops/shop_9", shop.clone())
        .await
        .refused(403, "role_missing");
    staff.put("/api/shops/shop_9", shop).await.expect(200);
    let slots = json!({ "slots": [{ "slot": "B1", "productId": "prod_456" }] });
    let shop = staff
        .put("/api/shops/shop_9/machines/vm_9", slots.clone())
        .await
        .expect(200);
    let machine = json!({ "machineId": "vm_9", "slots": slots["slots"] });
    assert_eq!(shop["machine"], machine);
    assert_eq!(customer.get("/api/shops/shop_9").await.expect(200), shop);
    let other = staff
        .put("/api/shops/shop_9/machines/vm_10", slots.clone())
        .await;
    other.refused(409, "machine_taken");
    staff
        .put("/api/shops/shop_0/machines/vm_10", slots)
        .await
        .refused(404, "shop_unknown");
    let shops = customer.get("/api/shops").await.expect(200);
    assert_eq!(shops.as_array().unwrap().len(), demo::SHOPS.len() + 1);
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_product_is_for_sale_where_it_lies() {
    let erp = TestErp::start().await;
    let (staff, customer) = (erp.staff(), erp.customer());
    let product = json!({ "name": "Tea", "price": 4.99 });
    customer
        .put("/api/products/prod_1", product.clone())
        .await
        .refused(403, "role_missing");
    let product = staff.put("/api/products/prod_1", product).await.expect(200);
    assert_eq!(
        (&product["available"], &product["price"]),
        (&json!(false), &json!(4.99))
    );
    let some = customer
        .get("/api/products?ids=prod_1,prod_789")
        .await
        .expect(200);
    assert_eq!(some[1]["productId"], "prod_789");
    assert!(
        customer
            .get("/api/products")
            .await
            .expect(200)
            .as_array()
            .unwrap()
            .len()
            >= 5
    );
    erp.stop().await;
}
