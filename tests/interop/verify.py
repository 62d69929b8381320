"""Verifies messages with the `standardwebhooks` package: one JSON object a line, exit code 1 if any is not good."""

import json
import sys

from standardwebhooks import Webhook

for line in sys.stdin:
    message = json.loads(line)
    Webhook(message["secret"]).verify(message["body"], message["headers"])
