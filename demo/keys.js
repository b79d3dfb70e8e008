// What gradio does not offer: arrow keys for the divider between before and after and for the tabs,
// alternative texts of the pictures, Ctrl+Z, and reloading a page that slept.
() => {
  const pictures = document.getElementById('pictures');
  const divider = () => pictures.querySelector('[data-testid=slider]');
  const frame = () => pictures.querySelector('.wrap').getBoundingClientRect();
  const position = () => new DOMMatrix(getComputedStyle(divider()).transform).m41;
  const describe = () => {
    const percent = divider() ? Math.round((100 * position()) / frame().width) : 50;
    pictures.setAttribute('aria-valuenow', percent);
    // A label is hidden when its picture is covered.
    pictures.classList.toggle('no-before', percent < 10);
    pictures.classList.toggle('no-after', percent > 90);
    const said = document.querySelector('#caption [data-before]')?.dataset;
    const alts = [`Before: ${said?.before}`, `After: ${said?.after}`];
    pictures.querySelectorAll('img').forEach((picture, i) => said && (picture.alt = alts[i] ?? ''));
  };
  new MutationObserver(describe).observe(document.getElementById('view'), {
    subtree: true, childList: true, attributes: true, attributeFilter: ['style', 'data-after'],
  });

  pictures.tabIndex = 0;
  pictures.role = 'slider';
  pictures.ariaLabel = 'Before and after';
  describe();
  pictures.addEventListener('focus', describe);
  pictures.addEventListener('keydown', event => {
    const step = { ArrowLeft: -5, ArrowRight: 5, Home: -100, End: 100 }[event.key];
    if (!step || !divider() || event.target !== pictures) return;
    event.preventDefault();
    const { left, top, width } = frame();
    const from = position();
    const to = Math.min(Math.max(from + (step / 100) * width, 0), width);
    const at = x => ({ bubbles: true, clientX: left + x, clientY: top + 1, view: window });
    divider().dispatchEvent(new MouseEvent('mousedown', at(from)));
    window.dispatchEvent(new MouseEvent('mousemove', at(to)));
    window.dispatchEvent(new MouseEvent('mouseup', at(to)));
    setTimeout(describe); // after the divider has moved
  });

  // On a phone, the slider that sticks below the picture needs the picture's height.
  const view = document.getElementById('view');
  new ResizeObserver(() => {
    document.documentElement.style.setProperty('--view-height', `${view.offsetHeight}px`);
  }).observe(view);

  document.getElementById('tabs').addEventListener('keydown', event => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || event.target.role !== 'tab') return;
    const tabs = [...document.querySelectorAll('#tabs [role=tablist] [role=tab]')]
      .filter(tab => tab.getClientRects().length);
    const to = tabs.indexOf(event.target) + step;
    const next = tabs[Math.abs(step) === 1 ? (to + tabs.length) % tabs.length : step < 0 ? 0 : tabs.length - 1];
    event.preventDefault();
    next.focus();
    next.click();
  });

  // In a text box, the browser itself undoes typing.
  const writes = box => box.isContentEditable || box.matches('textarea')
    || (box.matches('input') && !['range', 'radio', 'checkbox', 'button'].includes(box.type));
  document.addEventListener('keydown', event => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || writes(event.target)) return;
    const key = event.key.toLowerCase();
    const redo = key === 'y' || (key === 'z' && event.shiftKey);
    if (!redo && key !== 'z') return;
    event.preventDefault();
    document.getElementById(redo ? 'redo' : 'undo').click();
  });

  // A page from the browser's cache, or after sleep, has lost its connection but not its state.
  window.addEventListener('pageshow', event => event.persisted && location.reload());
  let awake = Date.now();
  setInterval(() => {
    if (Date.now() - awake > 15 * 60 * 1000) location.reload();
    awake = Date.now();
  }, 60 * 1000);
}
