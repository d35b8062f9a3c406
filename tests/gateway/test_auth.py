"""Tokens at every door: which are accepted, which prove nothing, and that each refusal says why."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from gateway.auth import LONGEST_TOKEN
from tests.gateway.node_fixture import NOBODYS, SECRET

OTHER = b"another secret, which is long enough too"


def encode(claims, *, key=SECRET, header=None):
    """
    Sign by hand, with any key and any claims: joserfc refuses much of what an attacker would do.
    """
    signed = f"{part({'alg': 'HS256', **(header or {})})}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forged(header, claims, signature=b""):
    return f"{part(header)}.{part(claims)}.{part(signature)}"


def claims(**more):
    return {"sub": "alice@example.com", "role": "operator", "exp": int(time.time()) + 600, **more}


async def refused(greenroom, token):
    """
    What REST says about a token; a WebSocket must say the same, and close with 4401.
    """
    answer = await greenroom.request("GET", "episodes", token=token)
    detail = answer.problem(401)["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"
    frontend = await greenroom.open()
    await frontend.send(type="connect", token=token)
    bye, code = await frontend.bye()
    assert (code, bye["code"], bye["reason"]) == (4401, 4401, detail)
    assert (bye["resume"], bye["reconnect_after"]) == (False, 0)
    return detail


async def test_a_token_says_who_one_is(greenroom):
    """
    sub is the user, name what others see, role what one may do; a missing role is the least.
    """
    token = encode(claims(name="Alice Smith", role="operator"))
    assert (await greenroom.request("GET", "engine/tree", token=token)).status == 200
    frontend = await greenroom.open()
    await frontend.send(type="connect", token=token, ref=1)
    welcome = await frontend.receive()
    assert welcome == {
        "type": "ok",
        "ref": 1,
        "session": welcome["session"],
        "userId": "alice@example.com",
        "userName": "Alice Smith",
        "role": "operator",
        "expires_at": welcome["expires_at"],
    }
    bare = encode({"sub": "alice@example.com"})
    assert (await greenroom.request("GET", "episodes", token=bare)).status == 200
    (await greenroom.request("POST", "episodes", {"title": "x"}, token=bare)).problem(403)
    for role in ("Editor", "EDITOR"):
        assert (
            await greenroom.request("POST", "episodes", {"title": "x"}, token=encode(claims(role=role)))
        ).status == 201


async def test_every_route_but_health_and_pages_wants_a_token(greenroom):
    """
    401 without one; no route of the API was forgotten.
    """
    open_to_all = {"/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/api/v1/sign-in"}
    asked = 0
    for rule in greenroom.application.rest.url_map.iter_rules():
        if rule.rule in open_to_all or rule.endpoint.startswith(("pages.", "scripts.")):
            continue
        path = rule.rule.replace("<id>", NOBODYS).replace("<episode_id>", NOBODYS).replace("<name>", "audit")
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            answer = await greenroom.request(method, path, token="")
            assert "Authorization: Bearer" in answer.problem(401)["detail"]
            asked += 1
    assert asked > 20


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", "Token x", "bearer", "BearerX y"])
async def test_an_authorization_that_is_no_bearer_token_proves_nothing(greenroom, header):
    """
    401 that says how to send one; by WebSocket 4401.
    """
    (await greenroom.request("GET", "episodes", token="", headers={"Authorization": header})).problem(401)
    frontend = await greenroom.open(headers=[("Authorization", header)])
    assert (await frontend.bye())[1] == 4401


async def test_tokens_that_somebody_else_made_are_refused(greenroom):
    """
    By another secret, by none, by an algorithm that was not asked for, or with claims exchanged.
    """
    good = encode(claims(role="viewer"))
    head, body, signature = good.split(".")
    rsa = RSAKey.generate_key(2048)
    wrong = {
        "another secret": encode(claims(), key=OTHER),
        "no signature": f"{head}.{body}.",
        "alg none": forged({"alg": "none", "typ": "JWT"}, claims()),
        "alg NONE": forged({"alg": "NONE"}, claims()),
        "no alg": forged({"typ": "JWT"}, claims(), b"x"),
        "other claims": f"{head}.{part(claims())}.{signature}",
        "another algorithm": jwt.encode({"alg": "RS256"}, claims(), rsa),
        "a stronger hash": jwt.encode(
            {"alg": "HS512"}, claims(), OctKey.import_key(SECRET * 2), algorithms=["HS512"]
        ),
        "a key of its own": forged({"alg": "HS256", "jwk": {"kty": "oct", "k": part(OTHER)}}, claims(), b"x"),
        "an unknown crit": encode(claims()).replace(head, part({"alg": "HS256", "crit": ["x"], "x": 1})),
    }
    for what, token in wrong.items():
        assert "cannot be verified" in await refused(greenroom, token), what
    assert (await greenroom.request("GET", "episodes", token=good)).status == 200


async def test_what_is_no_token_at_all_is_refused(greenroom):
    """
    Whatever stands there: 401 and 4401, never a bug of ours.
    """
    head = part({"alg": "HS256", "typ": "JWT"})
    for token in (
        "x",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        "." * 100,
        "{}",
        f"{head}.{part([])}.{part(b'x')}",
        forged([], {}),
        forged("HS256", {}),
        forged({"alg": 1}, {}),
        forged({"alg": ["HS256"]}, {}),
        forged({"alg": "HS256", "kid": 1}, {}),
        forged({"alg": "dir", "enc": "A256GCM"}, {}) + ".x.y",
        f"{part(b'[' * 3000)}.{head}.x",
        f"{part(bytes(range(256)))}.x.y",
        "caf\u00e9",
        "x" * LONGEST_TOKEN,
        "x" * (LONGEST_TOKEN + 1),
    ):
        sent = token.encode("latin-1")
        answer = await greenroom.request(
            "GET", "episodes", token="", headers={"Authorization": b"Bearer " + sent}
        )
        answer.problem(401)
        frontend = await greenroom.open()
        await frontend.send(type="connect", token=token)
        assert (await frontend.bye())[1] == 4401


async def test_tokens_whose_claims_are_no_good_are_refused(greenroom):
    """
    Ours by the signature, but expired, not yet valid, or without a user or a known role.
    """
    now = int(time.time())
    wrong = {
        "expired": [claims(exp=now - 5), claims(exp=0)],
        "cannot be verified": [
            *(claims(nbf=now + 600), claims(nbf="x"), claims(exp="soon"), claims(exp=None)),
            *(claims(sub=1), claims(sub=["a"]), claims(sub=None), claims(sub=""), {}),
        ],
        "`sub` must name": [claims(sub="x" * 201), claims(sub="a\0b"), claims(sub="\ud800")],
        "must be one of viewer, editor, operator": [
            *(claims(role="root"), claims(role=3), claims(role=None), claims(role=["editor"])),
        ],
    }
    for wanted, bad in wrong.items():
        for given in bad:
            assert wanted in await refused(greenroom, encode(given)), given


async def test_a_token_lasts_as_long_as_was_asked(greenroom):
    """
    Not until the second before, in which a short one would be over at once.
    """
    before = time.time()
    frontend = await greenroom.open()
    await frontend.send(type="connect", token=greenroom.token(ttl=60.5))
    assert before + 60.5 <= (await frontend.receive())["expires_at"] <= time.time() + 60.5


async def test_what_was_verified_is_not_remembered_beyond_its_end(greenroom, put_clock_forward):
    """
    A token that worked is refused once it has expired.
    """
    token = greenroom.token(ttl=60)
    assert (await greenroom.request("GET", "episodes", token=token)).status == 200
    put_clock_forward(61)
    assert (await greenroom.request("GET", "episodes", token=token)).problem(401)[
        "detail"
    ] == "the token has expired"


async def test_the_leeway_bears_a_clock_that_is_off(start_greenroom):
    """
    Within it an expired token and one from the future are good; beyond it not.
    """
    greenroom = await start_greenroom({"auth.leeway": "60s"})
    now = int(time.time())
    for good in (claims(exp=now - 30), claims(nbf=now + 30), claims(iat=now + 30)):
        assert (await greenroom.request("GET", "episodes", token=encode(good))).status == 200
    for bad in (claims(exp=now - 90), claims(nbf=now + 90)):
        (await greenroom.request("GET", "episodes", token=encode(bad))).problem(401)


async def test_issuer_and_audience_are_held_to_the_settings(start_greenroom):
    """
    Where they are configured a token must carry them; the role may stand in another claim.
    """
    greenroom = await start_greenroom(
        {
            "auth.issuer": "https://id.example.com",
            "auth.audience": "greenroom",
            "auth.role_claim": "gr_role",
            "auth.default_role": "editor",
        }
    )
    right = {"iss": "https://id.example.com", "aud": ["other", "greenroom"], "sub": "alice@example.com"}
    post = {"title": "Pilot"}
    assert (await greenroom.request("POST", "episodes", post, token=encode(right))).status == 201
    viewer = encode({**right, "gr_role": "viewer"})
    (await greenroom.request("POST", "episodes", post, token=viewer)).problem(403)
    for wrong in ({"iss": "https://evil.example.com"}, {"aud": "other"}, {"iss": None}):
        assert "cannot be verified" in await refused(greenroom, encode({**right, **wrong}))
    for missing in ("iss", "aud"):
        await refused(greenroom, encode({name: value for name, value in right.items() if name != missing}))


async def test_keys_of_a_key_set_are_accepted_and_nothing_else(start_greenroom, tmp_path):
    """
    RS256 and ES256 by the public keys of the file; never HS256, with the secret or with a public key.
    """
    rsa, ec = RSAKey.generate_key(2048, {"kid": "rsa"}), ECKey.generate_key("P-256", {"kid": "ec"})
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(KeySet([rsa, ec]).as_dict(private=False)))
    greenroom = await start_greenroom({"auth.jwks_file": str(file)})
    for header, key in (({"alg": "RS256", "kid": "rsa"}, rsa), ({"alg": "ES256", "kid": "ec"}, ec)):
        token = jwt.encode(header, claims(), key)
        assert (await greenroom.request("GET", "engine/tree", token=token)).status == 200

    stranger = RSAKey.generate_key(2048, {"kid": "rsa"})
    public = {
        "PEM": rsa.as_pem(private=False),
        "DER": rsa.as_der(private=False),
        "JWK": json.dumps(rsa.as_dict(private=False)).encode(),
        "the secret": SECRET,
    }
    wrong = {
        "a stranger's": jwt.encode({"alg": "RS256", "kid": "rsa"}, claims(), stranger),
        "an unknown key": jwt.encode({"alg": "RS256", "kid": "x"}, claims(), stranger),
        "none": forged({"alg": "none", "kid": "rsa"}, claims()),
    }
    for name, key in public.items():
        for kid in ({"kid": "rsa"}, {"kid": "ec"}, {}):
            wrong[f"HS256 with {name} {kid}"] = encode(claims(), key=key, header=kid)
    for what, token in wrong.items():
        assert "cannot be verified" in await refused(greenroom, token), what
