// Verifies messages with `standardwebhooks` and security events with `jose`.
// One JSON object a line on standard input; exit code 1 if any is not good.
import { readFileSync } from "node:fs";
import { createLocalJWKSet, jwtVerify } from "jose";
import { Webhook } from "standardwebhooks";

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const message = JSON.parse(line);
  if (message.set) {
    const { audience, issuer } = message;
    await jwtVerify(message.set, createLocalJWKSet(message.jwks), { audience, issuer, typ: "secevent+jwt" });
  } else {
    new Webhook(message.secret).verify(message.body, message.headers);
  }
}
