// An OAuth server that others wrote: registration, PKCE, resource indicators, rotation, revocation, its own name in answers.
//
// usage: node oidc-provider.mjs FOLDER_WITH_NODE_MODULES PORT TOKEN_LIFE_SECONDS
// GET /-/seen tells what was asked of it: [{method, path, grant}].
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [folder, port, life] = process.argv.slice(2);
const { default: Provider } = await import(
  pathToFileURL(join(folder, 'node_modules/oidc-provider/lib/index.js')).href
);
const issuer = `http://127.0.0.1:${port}`;
const programs = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const client_secret = 'secret-of-a-program-0123456789abcdef';
const clients = [
  { client_id: 'basic', client_secret, token_endpoint_auth_method: 'client_secret_basic', ...programs },
  { client_id: 'post', client_secret, token_endpoint_auth_method: 'client_secret_post', ...programs },
];
if (process.env.PROGRAM_JWK) {
  clients.push({
    client_id: 'jwt',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [JSON.parse(process.env.PROGRAM_JWK)] },
    ...programs,
  });
}
const provider = new Provider(issuer, {
  clients,
  cookies: { keys: ['only-for-tests'] },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: Number(life), ClientCredentials: Number(life), RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600 },
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async (_ctx, _client, one) => one,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (_ctx, resource) => ({
        scope: 'read write',
        audience: resource,
        accessTokenTTL: Number(life),
        accessTokenFormat: 'opaque',
      }),
    },
  },
});
const seen = [];
provider.use(async (ctx, next) => {
  if (ctx.path === '/-/seen') {
    ctx.body = seen;
    return;
  }
  const entry = { method: ctx.method, path: ctx.path };
  seen.push(entry);
  await next();
  entry.status = ctx.status;
  entry.grant = ctx.oidc?.params?.grant_type;
  if (ctx.path === '/auth') entry.query = ctx.query;
});
provider.listen(Number(port), '127.0.0.1');
