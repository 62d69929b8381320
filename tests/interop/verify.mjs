// Verifies messages with the `standardwebhooks` package: one JSON object a line, exit code 1 if any is not good.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const message = JSON.parse(line);
  new Webhook(message.secret).verify(message.body, message.headers);
}
