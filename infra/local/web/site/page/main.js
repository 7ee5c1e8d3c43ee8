// Starts the page: who is it for, where are the regions, then go.

import { App } from './app.js';
import { Client } from './client.js';
import { toast } from './dom.js';
import { Regions } from './regions.js';
import { Session } from './session.js';
import { signIn } from './signin.js';
import { Theme } from './theme.js';

const PREFER_KEY = 'parley.prefer';

/** config.json says where the API is; beside the API, and on one's own machine, that is here. */
async function configuration() {
  const config = await (await fetch('page/config.json')).json();
  config.api ||= location.origin;
  return config;
}

/** The regions and their own addresses, if they can be known. */
async function regionsOf(config) {
  if (!config.local) return config.regions;
  try {
    return (await (await fetch(`${config.api}/local/regions`, { cache: 'no-store' })).json()).regions;
  } catch {
    return config.regions;
  }
}

async function start() {
  const theme = new Theme();
  const config = await configuration();
  const session = new Session(config.api, sessionStorage);
  const fresh = !session.resume();
  if (fresh) await signIn(session, config);
  const list = await regionsOf(config);
  const endpoints = [{ name: '', url: config.api, socket: config.socket || undefined }, ...list.map((r) => ({ name: r.region, url: r.url, socket: r.socket }))];
  const client = await Client.of({ session, endpoints, storage: localStorage });
  client.endpoints.prefer(sessionStorage.getItem(PREFER_KEY) ?? '');
  client.endpoints.addEventListener('change', () => sessionStorage.setItem(PREFER_KEY, client.endpoints.preferred));
  const signOut = () => {
    session.signOut();
    location.assign(location.pathname);
  };
  client.live.addEventListener('status', () => client.live.status.state === 'signed-out' && signOut());
  for (const change of ['online', 'offline']) addEventListener(change, () => client.live.kick()); // find out what still works
  client.names.set(session.user, session.name);
  if (fresh && !session.pasted && session.name !== session.user) client.setName(session.name);
  const app = new App({ client, regions: new Regions(config, list), theme, signOut });
  client.start();
  app.start();
}

start().catch(() => toast('The page could not be started. Reload it.'));
