// An OpenID provider for tests, on a loopback port the system chooses. It writes its issuer to standard output as one line
// of JSON, and ends when standard input does: whoever started it is gone then.
//
// The resource a client asks for decides what token it gets: https://<algorithm>.resource.test gives a JWT signed with that
// algorithm, any other resource an opaque token.

import http from 'node:http';
import { once } from 'node:events';
import Provider from 'oidc-provider';
import { exportJWK, exportPKCS8, generateKeyPair } from 'jose';

const ALGORITHMS = { RS256: {}, ES256: {}, EdDSA: { crv: 'Ed25519' } };
const SCOPES = 'orders:read orders:write profile';
const SECRET = 'a secret for tests, known to everybody';

let generation = 0;

async function newKeys() {
  generation += 1;
  return Promise.all(
    Object.entries(ALGORITHMS).map(async ([alg, options]) => {
      const { privateKey } = await generateKeyPair(alg, { extractable: true, ...options });
      return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: `${alg}-${generation}` };
    }),
  );
}

function machine(client_id, more = {}) {
  return {
    client_id,
    client_secret: SECRET,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: SCOPES,
    ...more,
  };
}

function resourceServer(context, resource) {
  const name = new URL(resource).hostname.split('.')[0];
  const alg = Object.keys(ALGORITHMS).find((known) => known.toLowerCase() === name);
  const shared = { scope: SCOPES, audience: resource, accessTokenTTL: 300 };
  return alg
    ? { ...shared, accessTokenFormat: 'jwt', jwt: { sign: { alg } } }
    : { ...shared, accessTokenFormat: 'opaque' };
}

// The key of the client that proves itself by assertions. Its private half goes to whoever started this.
const assertion = await generateKeyPair('ES256', { extractable: true });
const assertionJwk = { ...(await exportJWK(assertion.publicKey)), alg: 'ES256', use: 'sig', kid: 'assertion' };

function provider(issuer, keys) {
  return new Provider(issuer, {
    jwks: { keys },
    scopes: SCOPES.split(' '),
    clients: [
      machine('service'),
      machine('bound-service', { dpop_bound_access_tokens: true }),
      machine('cardea', { grant_types: [] }),
      machine('cardea-signed', { grant_types: [], introspection_signed_response_alg: 'ES256' }),
      machine('cardea-assertion', {
        grant_types: [],
        client_secret: undefined,
        token_endpoint_auth_method: 'private_key_jwt',
        jwks: { keys: [assertionJwk] },
      }),
    ],
    extraTokenClaims: async () => ({
      tenant: 'acme',
      roles: ['order-viewer'],
    }),
    features: {
      clientCredentials: { enabled: true },
      dPoP: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      jwtIntrospection: { enabled: true },
      revocation: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: resourceServer,
      },
    },
  });
}

let counted = { keys: 0, introspections: 0 };
let keys = await newKeys();
let answer;

const server = http.createServer((request, response) => {
  const { method, url } = request;
  const json = (value) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(value));
  };
  if (url === '/jwks') counted.keys += 1;
  if (url === '/token/introspection') counted.introspections += 1;
  if (method === 'GET' && url === '/test/counted') return json(counted);
  if (method === 'POST' && url === '/test/rotate') {
    const old = keys;
    return newKeys().then((fresh) => {
      keys = fresh;
      answer = provider(issuer, [...keys, ...old]).callback();
      json(keys.map((key) => key.kid));
    });
  }
  if (method === 'POST' && url === '/test/withdraw') {
    answer = provider(issuer, keys).callback();
    return json(keys.map((key) => key.kid));
  }
  return answer(request, response);
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;
answer = provider(issuer, keys).callback();

// The library prints notices, and nobody reads them: that must not end the process.
process.stdout.on('error', () => {});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
console.log(JSON.stringify({ issuer, secret: SECRET, key: await exportPKCS8(assertion.privateKey) }));
