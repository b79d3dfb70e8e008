// Shows the picture after the edits while a slider moves: rendered in the browser if
// `in_browser.js` can do that and is faster, otherwise by the server.
(() => {
  const after = () => document.querySelectorAll('#pictures img')[1];
  const isMoving = picture => picture.src.startsWith('blob:');
  const draw = async (channel, strengths, largest) =>
    (await window.inBrowser.draw(strengths, largest)) ?? fromServer(channel, strengths, largest);

  // The page comes with the first face, which is not the one of those who return or open a link.
  const hiding = document.createElement('style');
  hiding.textContent = '#pictures img { visibility: hidden; }';
  const isVisit = name => name.startsWith(STORED) && name.endsWith('visit');
  if (location.search || Object.keys(localStorage).some(isVisit)) document.head.append(hiding);
  setTimeout(() => hiding.remove(), 10_000); // in case that nothing else is ever shown

  const fromServer = async (channel, strengths, largest) => {
    const root = window.gradio_config?.root ?? location.origin;
    const query = new URLSearchParams({ channel, strengths, largest });
    const answer = await fetch(`${root}/picture?${query}`);
    return answer.ok ? answer.blob() : null;
  };
  let wanted = null; // only the newest request counts
  let isDrawing = false;
  let settlings = 0;

  const drawWanted = async () => {
    isDrawing = true;
    while (wanted) {
      const asked = wanted;
      wanted = null;
      const settling = settlings;
      const largest = Math.ceil((after()?.clientWidth ?? 0) * devicePixelRatio) || 512;
      const drawn = await draw(...asked, largest).catch(() => null); // the connection was lost
      const isOld = settling !== settlings && !held; // it must not cover the final picture
      if (drawn && !isOld && after()) put(after(), URL.createObjectURL(drawn));
    }
    isDrawing = false;
  };

  const put = (picture, address) => {
    const old = picture.src;
    if (!isMoving(picture)) picture.dataset.final = old;
    picture.src = address;
    picture.decode().catch(() => {}).then(() => old.startsWith('blob:') && URL.revokeObjectURL(old));
  };

  window.movePicture = (channel, strengths) => {
    wanted = [channel, strengths.map(Number)];
    if (!isDrawing) drawWanted();
  };

  // gradio does not update the picture if the final one equals the one from before the move.
  window.settlePicture = channel => {
    hiding.remove();
    window.inBrowser.renew(channel);
    tellTabs(channel);
    settlings++;
    if (!held) wanted = null;
    const picture = after();
    if (picture && !(held && isDrawing) && isMoving(picture)) picture.src = picture.dataset.final;
  };

  // Two tabs of a browser show the same face. After a change in one, the other is out of date, and
  // its sliders could move other edits; it shows the face again as soon as it is used.
  let shown = null; // the channel, once this page shows its face
  let isOutOfDate = false;
  const tellTabs = channel => {
    if (shown || window.openedLink) window.keepDraft('changed', `${channel} ${Math.random()}`);
    shown = channel;
  };
  window.addEventListener('storage', ({ key, newValue }) => {
    if (shown && key === `${STORED}changed` && (newValue ?? shown).startsWith(shown)) isOutOfDate = true;
  });
  window.addEventListener('focus', () => isOutOfDate && location.reload());

  const isOfSlot = event => event.isTrusted && event.target.closest?.('.slot');

  // When a search ends, the server may set a slider that is being dragged: the drag counts.
  let held = null;
  const keepInHand = () => {
    if (held?.value === undefined || held.slider.value === held.value) return;
    held.slider.value = held.value;
    held.slider.dispatchEvent(new Event('input', { bubbles: true }));
  };
  const watchHand = () => {
    if (!held) return;
    keepInHand();
    requestAnimationFrame(watchHand);
  };
  document.addEventListener('pointerdown', event => {
    if (!isOfSlot(event) || event.target.type !== 'range') return;
    held = { slider: event.target };
    watchHand();
  });
  document.addEventListener(
    'input',
    event => event.isTrusted && event.target === held?.slider && (held.value = event.target.value),
    true,
  );
  const release = () => {
    keepInHand();
    held = null;
  };
  document.addEventListener('pointerup', release, true);
  document.addEventListener('pointercancel', release, true);

  // gradio reports the release of a slider only for a pointer; this does it for keys.
  let letGo = 0;
  document.addEventListener('pointerup', event => isOfSlot(event) && (letGo = Date.now()), true);
  document.addEventListener('change', event => {
    if (isOfSlot(event) && event.target.matches('input') && Date.now() - letGo > 200)
      event.target.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  });
})();
