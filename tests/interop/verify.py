"""Verifies messages with `standardwebhooks` and security events with `PyJWT`.

One JSON object a line on standard input; exit code 1 if any is not good.
"""

import json
import sys

import jwt
from standardwebhooks import Webhook


def verify_set(message):
    header = jwt.get_unverified_header(message["set"])
    assert header["typ"] == "secevent+jwt", header
    key = jwt.PyJWKSet.from_dict(message["jwks"])[header["kid"]]
    jwt.decode(message["set"], key, algorithms=["ES256"], audience=message["audience"], issuer=message["issuer"])


for line in sys.stdin:
    message = json.loads(line)
    if "set" in message:
        verify_set(message)
    else:
        Webhook(message["secret"]).verify(message["body"], message["headers"])
