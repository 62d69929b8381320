//! Checks of a visit as a whole: how it ends, and what is on record afterwards.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::browser::{Site, refused};
use super::checks::{Visit, eventually, wait_past};
use super::service::text_at;
use super::{Finding, Run, ensure};

/// From the issue of a link to its end: long enough to get in.
const SHORT: time::Duration = time::Duration::seconds(6);

pub(super) async fn revocation(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    let path = format!("/v1/magic-links/{}/revoke", text_at(&visit.link, "/id"));
    run.service.call(Method::POST, &path, Some(&json!({ "reason": "The laptop was stolen" }))).await?;
    refused(&visit.page(run).await?, "at the request after the revocation")
}

pub(super) async fn service_down(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    let link = run.service.issue(&run.command.tenant, 4, false).await?;
    let callback = run.service.click(&link).await?;
    run.service.be_up(false);
    let outcome = closed(run, &mut visit, &callback).await;
    run.service.be_up(true);
    outcome?;
    let browser = visit.browser;
    eventually("the page is shown again once the service answers", || {
        let mut browser = browser.clone();
        async move { Ok(browser.get(&run.page(&run.command.tenant)).await?.is_shown()) }
    })
    .await
}

async fn closed(run: &Run, visit: &mut Visit, callback: &url::Url) -> Finding {
    refused(&visit.page(run).await?, "while the service does not answer")?;
    let mut other = run.browser.fresh();
    let page = other.send(Method::GET, callback, Site::Cross, None).await?;
    ensure(page.status >= 400, || format!("while the service does not answer, the callback answers {}", page.status))
}

/// The numbers of each source that are on record, in their order.
fn numbers(events: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in events.iter().filter(|event| text_at(event, "/type").starts_with("data.")) {
        let seq = event.get("seq").and_then(Value::as_u64).unwrap_or_default();
        numbers.entry(text_at(event, "/source")).or_default().push(seq);
    }
    for numbers in numbers.values_mut() {
        numbers.sort_unstable();
    }
    numbers
}

pub(super) async fn reports(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    visit.shown(run, "inside").await?;
    leave(run, &mut visit).await?;
    let numbers = numbers(&run.service.events(&visit.link).await?);
    ensure(!numbers.is_empty(), || format!("the view of {} was not reported", run.page(&run.command.tenant).path()))?;
    for (source, numbers) in &numbers {
        let has_gaps = !numbers.iter().copied().eq(1..=numbers.len() as u64);
        ensure(!has_gaps, || format!("the reports of `{source}` are not numbered from 1 without gaps: {numbers:?}"))?;
    }
    let (link, numbers) = (&visit.link, &numbers);
    eventually("the end of the session names the last number of each source (`sources`)", || async {
        let events = run.service.events(link).await?;
        let closings = || events.iter().filter(|event| text_at(event, "/type") == "session.closed");
        let is_closed = |source: &str, last: u64| {
            closings().any(|event| {
                event.pointer("/data/sources").and_then(|all| all.get(source)).and_then(Value::as_u64) == Some(last)
            })
        };
        Ok(numbers.iter().all(|(source, numbers)| is_closed(source, numbers.len() as u64)))
    })
    .await
}

async fn leave(run: &Run, visit: &mut Visit) -> Finding {
    let page = visit.browser.send(Method::POST, &run.done(), Site::Same, None).await?;
    ensure(page.status < 400, || format!("\"I am done\" is answered {}", page.status))
}

pub(super) async fn done(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    visit.browser.clone().send(Method::POST, &run.done(), Site::Cross, None).await?;
    visit.shown(run, "after \"I am done\" from another site").await?;
    let mut kept = visit.browser.clone();
    leave(run, &mut visit).await?;
    refused(&kept.get(&run.page(&run.command.tenant)).await?, "with the cookie of a visitor who was done")?;
    let link = &visit.link;
    eventually("the service hears that the consultant was done (`end_cause` is `done`)", || async {
        let session = run.service.session(link).await?.unwrap_or_default();
        Ok(text_at(&session, "/end_cause") == "done")
    })
    .await
}

/// The service's clock stands still, and it says that the session is active: the portal's own clock knows better.
pub(super) async fn no_grace(run: &Run) -> Finding {
    run.service.advance(run.service.lag() + SHORT);
    let mut visit = run.visit_for(1).await?;
    let session = run.service.session(&visit.link).await?.unwrap_or_default();
    let until = text_at(&session, "/expires_at");
    wait_past(&until).await?;
    refused(&visit.page(run).await?, &format!("after {until}, the session's `expires_at`"))
}

pub(super) async fn ended_at_service(run: &Run) -> Finding {
    let mut visit = run.visit().await?;
    run.service.advance(time::Duration::hours(5));
    refused(&visit.page(run).await?, "after the service's clock has ended the session")
}
