//! The Swagger page lists every operation and talks to nobody else.

use std::collections::BTreeSet;

use crate::actors::Api;
use crate::browser::OTHER_NAME;
use crate::world::World;

#[test]
fn the_swagger_page_lists_every_operation_and_asks_no_other_host() {
    World::run(async |world, browser| {
        let description = Api::new(&world.base, None).get("/openapi.json").await.ok();
        let paths = description["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        let described: BTreeSet<String> =
            operations.filter_map(|operation| Some(operation["operationId"].as_str()?.to_owned())).collect();
        assert!(described.contains("issueMagicLink"));
        browser.log("browser").await;
        browser.requests().await;

        // Some parts of Swagger call home only where the address is not this machine's.
        let base = world.base.replace("127.0.0.1", OTHER_NAME);
        browser.open(&format!("{base}/docs/")).await;
        browser.until(&format!("document.querySelectorAll('.opblock').length >= {}", described.len())).await;
        let shown = browser.script("return [...document.querySelectorAll('.opblock')].map((o) => o.id)").await;
        let shown: Vec<&str> = shown.as_array().unwrap().iter().filter_map(|id| id.as_str()).collect();
        for operation in &described {
            assert!(shown.iter().any(|id| id.ends_with(&format!("-{operation}"))), "{operation} is not shown");
        }

        for address in browser.requests().await {
            // The rest, `data:` and the browser's own pages, leaves no machine.
            let leaves = matches!(address.scheme(), "http" | "https" | "ws" | "wss");
            assert!(!leaves || address.host_str() == Some(OTHER_NAME), "the page asked for {address}");
        }
        let errors: Vec<_> =
            browser.log("browser").await.into_iter().filter(|entry| entry["level"] == "SEVERE").collect();
        assert!(errors.is_empty(), "{errors:#?}");
    });
}
