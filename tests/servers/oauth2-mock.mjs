// An OAuth server that does what it is told: failures, late answers, another's name.
//
// usage: node oauth2-mock.mjs FOLDER_WITH_NODE_MODULES PORT
// GET /-/seen tells what was asked of it: [{method, path, grant, refresh_token}].
// POST /-/next with a list: answers for the next requests for tokens, {status?, body?, hold?}; `body` is laid over the
// usual one, and a held answer is given at POST /-/release.
// POST /-/always with {body?, iss?}: what is laid over every answer, and added to the browser's way back.
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, port] = process.argv.slice(2);
const { OAuth2Issuer, OAuth2Service } = await import(
  pathToFileURL(join(folder, 'node_modules/oauth2-mock-server/dist/index.mjs')).href
);
const issuer = new OAuth2Issuer();
issuer.url = `http://127.0.0.1:${port}`;
await issuer.keys.generate('RS256');
const service = new OAuth2Service(issuer);

const seen = [];
let given = 0;
let next = [];
let always = {};
let release = [];
service.on('beforeResponse', (response, request) => {
  const { grant_type: grant, refresh_token } = request.body;
  Object.assign(request.entry, { grant, refresh_token });
  response.body.access_token = `access-${++given}-0123456789abcdef`;
  if (grant !== 'client_credentials') response.body.refresh_token = `refresh-${given}-0123456789abcdef`;
  delete response.body.scope;
  Object.assign(response.body, always.body);
  const told = request.told;
  if (told?.status) response.statusCode = told.status;
  if (told?.status >= 400) response.body = {};
  Object.assign(response.body, told?.body);
});
service.on('beforeAuthorizeRedirect', (redirect) => {
  if (always.iss) redirect.url.searchParams.set('iss', always.iss);
});

async function control(request, response) {
  let text = '';
  for await (const chunk of request) text += chunk;
  if (request.url === '/-/next') next.push(...JSON.parse(text));
  if (request.url === '/-/always') always = JSON.parse(text);
  if (request.url === '/-/release') release.splice(0).forEach((go) => go());
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(seen));
}

createServer((request, response) => {
  if (request.url.startsWith('/-/')) return control(request, response);
  const entry = { method: request.method, path: request.url.split('?')[0] };
  seen.push(entry);
  request.entry = entry;
  if (request.method === 'POST' && entry.path === '/token') {
    request.told = next.shift();
    if (request.told?.hold) {
      const end = response.end.bind(response);
      response.end = (...rest) => {
        release.push(() => end(...rest));
        entry.held = true;
        return response;
      };
    }
  }
  return service.requestHandler(request, response);
}).listen(Number(port), '127.0.0.1');
