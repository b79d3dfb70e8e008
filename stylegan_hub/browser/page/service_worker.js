// Caches the page for offline use.

const VERSION = 'development'; // the builder replaces it by a hash of the folder's files
const FILES = []; // the builder lists the files that are cached from the start
const CACHE = `${new URL(self.registration.scope).pathname}${VERSION}`;

self.addEventListener('install', event => {
  const fresh = FILES.map(file => new Request(file, { cache: 'no-cache' }));
  event.waitUntil(caches.open(CACHE).then(cache => cache.addAll(fresh)));
});

self.addEventListener('activate', event => {
  const isOld = name => name.startsWith(new URL(self.registration.scope).pathname) && name !== CACHE;
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (isOld(name)) await caches.delete(name);
    await self.clients.claim();
  })());
});

// A page sends the addresses of files that it loaded before this script was active.
self.addEventListener('message', event => event.waitUntil(keep(event.data.loaded)));

self.addEventListener('fetch', event => {
  const isOwn = event.request.url.startsWith(self.registration.scope);
  if (event.request.method === 'GET' && isOwn) event.respondWith(answer(event.request));
});

async function keep(addresses) {
  const cache = await caches.open(CACHE);
  for (const address of addresses) {
    const isOwn = address.startsWith(self.registration.scope);
    if (isOwn && !(await cache.match(address))) await cache.add(address);
  }
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const address = request.mode === 'navigate' ? self.registration.scope : request.url;
  const kept = await cache.match(address, { ignoreSearch: true });
  if (kept && request.cache !== 'reload') return kept; // 'reload': the kept copy is damaged
  const found = await fetch(request);
  if (found.status === 200) await cache.put(address, found.clone());
  return found;
}
