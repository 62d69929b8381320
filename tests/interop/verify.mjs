// Verifies messages with `standardwebhooks`, and security events and access tokens with `jose`.
// One JSON object a line on standard input; exit code 1 if any is not good.
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from "jose";
import { Webhook } from "standardwebhooks";

// As draft-ietf-oauth-status-list says: the list at the address in the token, and its bit for the token.
async function isOver({ uri, idx }, keys, issuer) {
  const answer = await fetch(uri, { headers: { accept: "application/statuslist+jwt" } });
  if (!answer.ok) throw new Error(`${uri} answered ${answer.status}`);
  const { payload } = await jwtVerify(await answer.text(), keys, { issuer, subject: uri, typ: "statuslist+jwt" });
  const bytes = inflateSync(Buffer.from(payload.status_list.lst, "base64url"));
  if (payload.status_list.bits !== 1 || idx >= bytes.length * 8) throw new Error("the index is not in the list");
  return ((bytes[idx >> 3] >> (idx & 7)) & 1) === 1;
}

async function verifyAccess({ access_token, issuer, audience }) {
  const discovery = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  const keys = createRemoteJWKSet(new URL(discovery.jwks_uri));
  const { payload } = await jwtVerify(access_token, keys, { audience, issuer: discovery.issuer, typ: "at+jwt" });
  if (await isOver(payload.status.status_list, keys, discovery.issuer)) throw new Error("the session is over");
}

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const message = JSON.parse(line);
  if (message.access_token) {
    await verifyAccess(message);
  } else if (message.set) {
    const { audience, issuer } = message;
    await jwtVerify(message.set, createLocalJWKSet(message.jwks), { audience, issuer, typ: "secevent+jwt" });
  } else {
    new Webhook(message.secret).verify(message.body, message.headers);
  }
}
