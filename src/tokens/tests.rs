//! Tokens that are almost right.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use time::Duration;

use super::*;
use crate::clock::Clock;
use crate::domain::Access;
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::records::signing_keys::SigningKeyRow as Row;
use crate::secrets::MasterKeySource;
use crate::tokens::Status;

const ISSUER: &str = "https://links.example";
const PORTAL: &str = "https://cloud.example";

fn now() -> Timestamp {
    Clock::System.now()
}

/// Tokens over a fresh key, without a store.
fn tokens() -> Tokens {
    tokens_of(ISSUER, now())
}

fn tokens_of(issuer: &str, active_from: Timestamp) -> Tokens {
    let given = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let master_key = MasterKey::load(&MasterKeySource::Given(given.into())).unwrap();
    let row = keyring::generate(&master_key, active_from, active_from).unwrap();
    let ring = Keyring::open(vec![row], KeyEpoch::default(), &master_key).unwrap();
    Tokens {
        issuer: issuer.to_owned(),
        master_key,
        longest_use: Duration::weeks(8),
        keyring: RwLock::new(Arc::new(ring)),
        readings: AtomicU64::new(0),
        connection: AtomicU64::new(0),
        turn: tokio::sync::Mutex::new(()),
        access: validation(issuer, &[PORTAL, "https://ess.example"]),
        verified: VerifiedTokens::default(),
        own: OwnTokens::default(),
    }
}

/// Another process with the same keys: it has signed nothing itself.
fn another_copy(tokens: &Tokens) -> Tokens {
    let copy = tokens_of(&tokens.issuer, now());
    *copy.keyring.write().unwrap() = tokens.ring();
    copy
}

fn link_claims() -> LinkClaims {
    let now = now();
    LinkClaims {
        iss: ISSUER.to_owned(),
        aud: ISSUER.to_owned(),
        sub: "emp-1042".to_owned(),
        act: Act { sub: ConsultantId::new(now) },
        jti: LinkId::new(now),
        generation: 1,
        portal: "cloud".to_owned(),
        tenant_id: "acme".to_owned(),
        iat: now.unix_seconds(),
        nbf: now.unix_seconds(),
        exp: now.unix_seconds() + 3600,
    }
}

fn code_claims() -> AuthorizationCodeClaims {
    let link = link_claims();
    AuthorizationCodeClaims {
        iss: link.iss,
        aud: link.aud,
        sub: link.sub,
        magic_link_id: link.jti,
        generation: link.generation,
        portal: link.portal,
        tenant_id: link.tenant_id,
        link_kid: None,
        visit: 0,
        cnf: None,
        iat: link.iat,
        nbf: link.nbf,
        exp: link.exp,
    }
}

fn access_claims() -> AccessClaims {
    let link = link_claims();
    let sid = SessionId::new(now());
    AccessClaims {
        iss: link.iss,
        aud: PORTAL.to_owned(),
        sub: link.sub,
        act: link.act,
        client_id: "cli_01kaq3v9e8fwmvd2x7n0c5hb4z".to_owned(),
        jti: sid.to_string(),
        sid,
        portal: link.portal,
        tenant_id: link.tenant_id,
        access: Access::Full,
        modules: None,
        forbidden: Vec::new(),
        status: Status::new(ISSUER, 1, 42),
        iat: link.iat,
        nbf: link.nbf,
        exp: link.exp,
    }
}

fn is_link(tokens: &Tokens, token: &str) -> bool {
    tokens.verify::<LinkClaims>(token, &[ISSUER], now()).is_ok()
}

/// Signs any header and claims with the active key, as only we could.
fn forge(tokens: &Tokens, header: &Value, claims: &Value) -> String {
    forge_text(tokens, &header.to_string(), &claims.to_string())
}

fn forge_text(tokens: &Tokens, header: &str, claims: &str) -> String {
    let text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let ring = tokens.ring();
    let key = &ring.active(now()).unwrap().encoding;
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, Algorithm::ES256).unwrap();
    format!("{text}.{signature}")
}

fn header(tokens: &Tokens) -> Value {
    json!({ "alg": "ES256", "typ": LinkClaims::TYP, "kid": tokens.ring().active(now()).unwrap().kid })
}

#[test]
fn only_the_diagonal_of_kinds_passes() {
    let tokens = tokens();
    let signed = [
        tokens.sign(&link_claims(), now()).unwrap(),
        tokens.sign(&code_claims(), now()).unwrap(),
        tokens.sign(&access_claims(), now()).unwrap(),
    ];
    for copy in [&tokens, &another_copy(&tokens)] {
        for (kind, token) in signed.iter().enumerate() {
            // Each verifier accepts both audiences here, so that nothing but the kind can refuse.
            let audience = [ISSUER, PORTAL];
            let verified = [
                copy.verify::<LinkClaims>(token, &audience, now()).is_ok(),
                copy.verify::<AuthorizationCodeClaims>(token, &audience, now()).is_ok(),
                copy.verify::<AccessClaims>(token, &audience, now()).is_ok(),
            ];
            for (verifier, passed) in verified.into_iter().enumerate() {
                assert_eq!(passed, kind == verifier, "token kind {kind} at verifier {verifier}");
            }
        }
    }
}

#[test]
fn a_token_of_one_audience_is_refused_at_another() {
    let tokens = tokens();
    let token = tokens.sign(&access_claims(), now()).unwrap();
    for copy in [&tokens, &another_copy(&tokens)] {
        assert!(copy.verify::<AccessClaims>(&token, &[PORTAL], now()).is_ok());
        assert!(copy.verify::<AccessClaims>(&token, &["https://ess.example"], now()).is_err());
        assert!(copy.verify::<AccessClaims>(&token, &[], now()).is_err());
    }
}

#[test]
fn a_token_of_another_key_or_issuer_is_refused() {
    let (ours, theirs) = (tokens(), tokens());
    assert!(!is_link(&ours, &theirs.sign(&link_claims(), now()).unwrap()));
    let elsewhere = LinkClaims { iss: "https://elsewhere.example".to_owned(), ..link_claims() };
    let elsewhere = ours.sign(&elsewhere, now()).unwrap();
    assert!(!is_link(&ours, &elsewhere) && !is_link(&another_copy(&ours), &elsewhere));
    // Their signature under our key's name.
    let kid = ours.ring().active(now()).unwrap().kid.clone();
    let stolen = json!({ "alg": "ES256", "typ": LinkClaims::TYP, "kid": kid });
    assert!(!is_link(&ours, &forge(&theirs, &stolen, &json!(link_claims()))));
}

#[test]
fn a_header_has_exactly_our_three_members() {
    let tokens = tokens();
    let claims = json!(link_claims());
    assert!(is_link(&tokens, &forge(&tokens, &header(&tokens), &claims)));
    for member in ["crit", "jku", "jwk", "x5u", "x5c", "zip", "cty", "b64"] {
        let mut more = header(&tokens);
        more[member] = json!(["exp"]);
        assert!(!is_link(&tokens, &forge(&tokens, &more, &claims)), "{member}");
    }
    for member in ["alg", "typ", "kid"] {
        let mut less = header(&tokens);
        less.as_object_mut().unwrap().remove(member);
        assert!(!is_link(&tokens, &forge(&tokens, &less, &claims)), "without {member}");
        for wrong in [json!(null), json!(1), json!([]), json!({}), json!(""), json!("other"), json!("../key")] {
            let mut changed = header(&tokens);
            changed[member] = wrong.clone();
            assert!(!is_link(&tokens, &forge(&tokens, &changed, &claims)), "{member} = {wrong}");
        }
    }
    let kid = tokens.ring().active(now()).unwrap().kid.clone();
    let twice = format!(r#"{{"alg":"ES256","alg":"ES256","typ":"{}","kid":"{kid}"}}"#, LinkClaims::TYP);
    assert!(!is_link(&tokens, &forge_text(&tokens, &twice, &claims.to_string())));
    let array = format!(r#"["ES256","{}","{kid}"]"#, LinkClaims::TYP);
    assert!(!is_link(&tokens, &forge_text(&tokens, &array, &claims.to_string())));
}

#[test]
fn the_algorithm_is_the_keys_and_not_the_tokens() {
    let tokens = tokens();
    let claims = json!(link_claims());
    for algorithm in ["none", "None", "HS256", "HS512", "RS256", "ES384", "EdDSA", "es256", "PS256"] {
        let mut other = header(&tokens);
        other["alg"] = algorithm.into();
        let token = forge(&tokens, &other, &claims);
        assert!(!is_link(&tokens, &token), "{algorithm}");
        let unsigned = token.rsplit_once('.').unwrap().0;
        assert!(!is_link(&tokens, &format!("{unsigned}.")), "{algorithm} without a signature");
        // The public key as an HMAC secret.
        let public = tokens.jwks(now()).to_string();
        let secret = jsonwebtoken::EncodingKey::from_secret(public.as_bytes());
        let mac = jsonwebtoken::crypto::sign(unsigned.as_bytes(), &secret, Algorithm::HS256).unwrap();
        assert!(!is_link(&tokens, &format!("{unsigned}.{mac}")), "{algorithm} with an HMAC");
    }
}

#[test]
fn every_claim_must_be_there_once_and_of_its_own_type() {
    let tokens = tokens();
    let right = json!(link_claims());
    for claim in ["iss", "aud", "sub", "act", "jti", "gen", "portal", "tenant_id", "iat", "nbf", "exp"] {
        let mut without = right.clone();
        without.as_object_mut().unwrap().remove(claim);
        assert!(!is_link(&tokens, &forge(&tokens, &header(&tokens), &without)), "without {claim}");
        for wrong in [json!(null), json!(true), json!(1.5), json!("1"), json!(["x"]), json!({"x": 1}), json!(-1e300)] {
            // A text is the right type for these three, whatever its value: they are opaque ids of the portal.
            if wrong.is_string() && matches!(claim, "sub" | "portal" | "tenant_id") {
                continue;
            }
            let mut changed = right.clone();
            changed[claim] = wrong.clone();
            assert!(!is_link(&tokens, &forge(&tokens, &header(&tokens), &changed)), "{claim} = {wrong}");
        }
        let twice = right.to_string().replacen('{', &format!("{{\"{claim}\":{},", right[claim]), 1);
        assert!(!is_link(&tokens, &forge_text(&tokens, &header(&tokens).to_string(), &twice)), "{claim} twice");
    }
}

#[test]
fn a_nested_actor_is_refused() {
    let tokens = tokens();
    let mut claims = json!(link_claims());
    claims["act"]["act"] = json!({ "sub": ConsultantId::new(now()) });
    assert!(!is_link(&tokens, &forge(&tokens, &header(&tokens), &claims)));
}

#[test]
fn every_prefix_and_suffix_is_refused() {
    let tokens = tokens();
    let token = tokens.sign(&link_claims(), now()).unwrap();
    assert!(is_link(&tokens, &token) && is_link(&another_copy(&tokens), &token));
    for cut in 1..token.len() {
        let (prefix, suffix) = token.split_at(cut);
        assert!(!is_link(&tokens, prefix), "the first {cut} characters");
        assert!(!is_link(&tokens, suffix), "all but the first {cut} characters");
    }
    for more in [format!("{token}."), format!("{token}.x"), format!(" {token}"), format!("{token}=")] {
        assert!(!is_link(&tokens, &more), "{more}");
    }
}

#[test]
fn a_flood_of_dots_is_refused_before_it_is_looked_at() {
    let tokens = tokens();
    assert!(!is_link(&tokens, &".".repeat(1024 * 1024)));
    let long = LinkClaims { sub: "x".repeat(MAX_BYTES), ..link_claims() };
    assert!(!is_link(&tokens, &tokens.sign(&long, now()).unwrap()));
}

#[test]
fn what_is_known_is_one_token_and_its_key() {
    let tokens = tokens();
    let token = tokens.sign(&link_claims(), now()).unwrap();
    let (text, signature) = token.rsplit_once('.').unwrap();
    // An honest signature of the same claims, which this process has not made itself, is verified.
    let again = another_copy(&tokens).sign(&link_claims(), now()).unwrap();
    assert!(is_link(&tokens, &again));
    // Another's claims with a known signature, and known claims with another's signature.
    let (other_text, other_signature) = again.rsplit_once('.').unwrap();
    assert!(!is_link(&tokens, &format!("{other_text}.{signature}")));
    assert!(!is_link(&tokens, &format!("{text}.{other_signature}")));
    // What was signed with a key counts no longer than the key.
    *tokens.keyring.write().unwrap() = Arc::new(Keyring::default());
    assert!(!is_link(&tokens, &token));
}

#[test]
fn a_token_of_a_copy_whose_clock_is_ahead_has_begun() {
    let tokens = tokens();
    for seconds in [30, 3600] {
        let iat = now().unix_seconds() + seconds;
        assert!(is_link(&tokens, &tokens.sign(&LinkClaims { iat, ..link_claims() }, now()).unwrap()));
        let access = AccessClaims { iat, nbf: iat, exp: iat + 3600, ..access_claims() };
        assert!(tokens.verify_access(&tokens.sign(&access, now()).unwrap(), now()).is_some());
    }
}

#[test]
fn a_key_is_published_before_it_signs_and_gone_after_its_end() {
    let master_key =
        MasterKey::load(&MasterKeySource::Given(base64::engine::general_purpose::STANDARD.encode([9; 32]).into()))
            .unwrap();
    let (start, day) = (now(), Duration::hours(24));
    let mut old = keyring::generate(&master_key, start, start).unwrap();
    old.expires_at = Some(start.plus(day * 10));
    let new = keyring::generate(&master_key, start.plus(Duration::seconds(1)), start.plus(day)).unwrap();
    let (old_kid, new_kid) = (old.kid.clone(), new.kid.clone());
    let ring = Keyring::open(vec![new, old], KeyEpoch::default(), &master_key).unwrap();
    let states = |at| ring.list(at).into_iter().map(|key| key.state).collect::<Vec<_>>();

    assert_eq!(ring.active(start).unwrap().kid, old_kid);
    assert_eq!(states(start), [KeyState::Published, KeyState::Active]);
    assert_eq!(ring.active(start.plus(day)).unwrap().kid, new_kid);
    assert_eq!(states(start.plus(day)), [KeyState::Active, KeyState::Retiring]);
    assert!(ring.find(&old_kid, start.plus(day * 9)).is_some());
    assert!(ring.find(&old_kid, start.plus(day * 10)).is_none());
    assert_eq!(ring.jwks(start)["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn a_retired_or_replaced_key_dates_nothing_later_than_its_retirement() {
    let tokens = tokens();
    let (start, minute) = (now(), Duration::minutes(1));
    let made = |after: i32, from| keyring::generate(&tokens.master_key, start.plus(minute * after), from).unwrap();
    let (first, second) = (made(0, start), made(1, start.plus(minute * 10)));
    let (old, new) = (first.kid.clone(), second.kid.clone());
    let open = |rows: Vec<_>| {
        *tokens.keyring.write().unwrap() =
            Arc::new(Keyring::open(rows, KeyEpoch::default(), &tokens.master_key).unwrap());
    };
    // `late` is a minute and a second after the new key began to sign: as far as another copy may lag, and one more.
    let at = |seconds: i64| start.plus(minute * 10 + Duration::seconds(seconds)).unix_seconds();
    let signed = |kid: &str, iat: i64| {
        tokens.sign_with(kid, &AccessClaims { iat, nbf: iat, exp: iat + 3600, ..access_claims() }).unwrap()
    };
    let later = start.plus(minute * 14);
    let counts = |token: &str| tokens.verify_access(token, later).is_some();

    open(vec![first.clone()]);
    let (early, in_time, late) = (signed(&old, at(-600)), signed(&old, at(60)), signed(&old, at(61)));
    assert!(counts(&early) && counts(&in_time) && counts(&late), "it is the only key");
    open(vec![second.clone(), first.clone()]);
    assert!(counts(&early) && counts(&in_time), "a rotation leaves what was signed before");
    assert!(!counts(&late), "although it was verified before");
    assert!(counts(&signed(&new, at(61))));
    let claims = LinkClaims { iat: at(61), ..link_claims() };
    let link = tokens.sign_with(&old, &claims).unwrap();
    assert!(tokens.verify::<LinkClaims>(&link, &[ISSUER], later).is_err(), "whatever the kind");

    // The new key was retired soon, and the old one signs again.
    let retired_at = start.plus(minute * 13);
    open(vec![Row { retired_at: Some(retired_at), ..second.clone() }, first.clone()]);
    assert!(!counts(&late));
    for seconds in [0, 1] {
        assert!(counts(&signed(&old, retired_at.unix_seconds() + seconds)));
    }
    // Retired by hand, while nothing replaced it.
    open(vec![Row { retired_at: Some(start.plus(minute * 10)), ..first }]);
    assert!(counts(&early) && counts(&in_time) && !counts(&late));
}

#[test]
fn the_newest_key_that_may_sign_signs() {
    let tokens = tokens();
    let (start, day) = (now(), Duration::hours(24));
    let made =
        |after: i64, from| keyring::generate(&tokens.master_key, start.plus(Duration::seconds(after)), from).unwrap();
    let (first, tomorrow) = (made(0, start), made(1, start.plus(day)));
    let urgent = made(2, start.plus(Duration::minutes(1)));
    let urgent_kid = urgent.kid.clone();
    let ring = Keyring::open(vec![urgent, tomorrow, first], KeyEpoch::default(), &tokens.master_key).unwrap();
    for at in [start.plus(Duration::minutes(2)), start.plus(day * 2)] {
        assert_eq!(ring.active(at).unwrap().kid, urgent_kid, "a key that was overtaken before its time never signs");
    }
}

#[test]
fn the_key_set_holds_nothing_private() {
    let set = tokens().jwks(now());
    let key = &set["keys"][0];
    assert_eq!(
        (&key["alg"], &key["use"], &key["kty"], &key["crv"]),
        (&json!("ES256"), &json!("sig"), &json!("EC"), &json!("P-256"))
    );
    assert!(key["kid"].is_string() && key["x"].is_string() && key["y"].is_string() && key.get("d").is_none());
}

#[test]
fn a_signature_is_verified_once_and_only_while_its_key_and_its_token_live() {
    let tokens = tokens();
    let claims = access_claims();
    let token = tokens.sign(&claims, now()).unwrap();
    let first = tokens.verify_access(&token, now()).unwrap();
    let again = tokens.verify_access(&token, now()).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "the second time it is cached");
    let over = now().plus(Duration::hours(2));
    assert!(tokens.verify_access(&token, over).is_none(), "it has expired");
    // Another signature over the same claims is another token.
    let other = tokens.sign(&claims, now()).unwrap();
    assert!(!Arc::ptr_eq(&first, &tokens.verify_access(&other, now()).unwrap()));
    assert!(tokens.verify_access(&format!("{token}A"), now()).is_none());
    let later = KeyEpoch { incarnation: 0, number: 1 };
    *tokens.keyring.write().unwrap() = Arc::new(Keyring::open(Vec::new(), later, &tokens.master_key).unwrap());
    assert!(tokens.verify_access(&token, now()).is_none(), "its key was removed");
    assert!(!tokens.still_counts(&first, now()));
}

#[test]
fn keys_of_another_epoch_or_an_earlier_connection_are_read_again() {
    let tokens = tokens();
    let at = |number| KeyEpoch { incarnation: 0, number };
    assert!(tokens.are_of(at(0), 0));
    // A lower epoch is that of a database that has lost a change, and so may be the same one.
    assert!(!tokens.are_of(at(1), 0) && !tokens.are_of(at(-1), 0) && !tokens.are_of(at(0), 1));
    tokens.connection.fetch_max(1, Ordering::SeqCst);
    assert!(tokens.are_of(at(0), 1) && tokens.are_of(at(0), 0));
}
