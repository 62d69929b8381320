"""Verifies messages with `standardwebhooks`, and security events and access tokens with `PyJWT`.

One JSON object a line on standard input; exit code 1 if any is not good.
"""

import base64
import json
import sys
import urllib.request
import zlib

import jwt
from standardwebhooks import Webhook


def verify_set(message):
    header = jwt.get_unverified_header(message["set"])
    assert header["typ"] == "secevent+jwt", header
    key = jwt.PyJWKSet.from_dict(message["jwks"])[header["kid"]]
    jwt.decode(message["set"], key, algorithms=["ES256"], audience=message["audience"], issuer=message["issuer"])


def is_over(place, keys, issuer):
    """As draft-ietf-oauth-status-list says: the list at the address in the token, and its bit for the token."""
    with urllib.request.urlopen(place["uri"]) as answer:
        token = answer.read().decode()
    assert jwt.get_unverified_header(token)["typ"] == "statuslist+jwt"
    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token, key, algorithms=["ES256"], issuer=issuer, subject=place["uri"],
        options={"require": ["exp", "iat", "sub"]},
    )
    status_list = claims["status_list"]
    assert status_list["bits"] == 1
    octets = zlib.decompress(base64.urlsafe_b64decode(status_list["lst"] + "=" * (-len(status_list["lst"]) % 4)))
    return octets[place["idx"] // 8] >> place["idx"] % 8 & 1 == 1


def verify_access(message):
    with urllib.request.urlopen(message["issuer"] + "/.well-known/openid-configuration") as answer:
        discovery = json.load(answer)
    token = message["access_token"]
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    keys = jwt.PyJWKClient(discovery["jwks_uri"])
    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=message["audience"], issuer=discovery["issuer"])
    assert not is_over(claims["status"]["status_list"], keys, discovery["issuer"]), "the session is over"


for line in sys.stdin:
    message = json.loads(line)
    if "access_token" in message:
        verify_access(message)
    elif "set" in message:
        verify_set(message)
    else:
        Webhook(message["secret"]).verify(message["body"], message["headers"])
