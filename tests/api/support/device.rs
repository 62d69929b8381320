//! A consultant's browser that is remembered: it holds a key, and signs proofs with it.

use serde_json::{Value, json};

use super::{Api, Reply, Settings, Signer, World, code_of, eventually};

/// The address of the service in its configuration.
const SERVICE: &str = "http://127.0.0.1:8080";

/// Cloud wants a mailed code on the service's page, ESS wants none, and Own has a page of its own.
pub fn careful() -> Settings {
    let tables = "[portals.cloud]\nname = 'Cloud'\naudience = 'https://cloud.example'\ncallback_url = 'https://cloud.example/cb'\n\
        step_up = 'email_code'\n[portals.ess]\naudience = 'https://ess.example'\ncallback_url = 'https://ess.example/cb'\n\
        [portals.own]\naudience = 'https://own.example'\ncallback_url = 'https://own.example/cb'\n\
        landing_url = 'https://own.example/l'";
    Settings { tables: tables.to_owned(), ..Settings::manual_clock() }
}

/// A request to issue a link for two weeks that a remembered browser opens again.
pub fn reentry_request(consultant_id: &str) -> Value {
    let mut request = Api::issue_request(consultant_id);
    request["duration"] = json!({ "value": 2, "unit": "weeks" });
    request["reentry"] = json!("device");
    request
}

/// The code in the newest of so many mails with one.
pub async fn mailed_code(world: &World, count: usize) -> String {
    let mail = eventually("the code is mailed", async || {
        let mut mails = world.mails.notices("step_up_code").await;
        (mails.len() == count).then(|| mails.pop().expect("a mail"))
    })
    .await;
    let digits = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
    let code = mail["Text"].as_str().expect("a text").lines().find(digits).expect("a code").to_owned();
    assert!(!mail["Subject"].as_str().expect("a subject").contains(&code), "a locked screen shows subjects");
    assert!(mail["To"][0]["Email"].as_str().expect("an address").ends_with("@support.example"));
    code
}

/// A browser with a key of its own.
pub struct Device {
    key: Signer,
}

impl Device {
    pub fn new() -> Self {
        Self { key: Signer::new() }
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        self.key.thumbprint()
    }

    /// A proof for a path, about what `POST /l/preview` said.
    pub fn proof(&self, path: &str, shown: &Value) -> String {
        let challenge = &shown["device"];
        self.sign(&json!({
            "htm": "POST", "htu": format!("{SERVICE}{path}"), "nonce": challenge["nonce"],
            "magic_link_id": challenge["magic_link_id"], "gen": challenge["generation"], "visit": challenge["visit"],
        }))
    }

    /// A proof with any claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.key.jws(&json!({ "typ": "magic-link-proof+jwt", "alg": "ES256", "jwk": self.key.jwk() }), claims)
    }

    /// Gives the mailed code, and asks to be remembered.
    pub async fn verify(&self, page: &Api, token: &str, asked: &Value, code: &str) -> Reply {
        let proof = self.proof("/l/verify", &shown(page, token).await);
        let body = json!({
            "token": token, "id": asked["id"], "page_secret": asked["page_secret"], "code": code, "proof": proof,
        });
        page.post("/l/verify", &body).await
    }

    /// Opens the link again.
    pub async fn reenter(&self, page: &Api, token: &str) -> Reply {
        let shown = shown(page, token).await;
        send(page, "/l/reenter", token, &self.proof("/l/reenter", &shown)).await
    }

    /// From the button to a code for the portal, with the mailed code number `count`.
    pub async fn first_code(&self, world: &World, token: &str, count: usize) -> String {
        let page = world.stranger();
        let asked = page.post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
        let code = mailed_code(world, count).await;
        code_of(&self.verify(&page, token, &asked, &code).await.ok())
    }
}

/// What the page is told.
pub async fn shown(page: &Api, token: &str) -> Value {
    page.post("/l/preview", &json!({ "token": token })).await.ok()
}

/// Sends a proof.
pub async fn send(page: &Api, path: &str, token: &str, proof: &str) -> Reply {
    page.post(path, &json!({ "token": token, "proof": proof })).await
}
