// If the browser forbids storage, as for blocked cookies, gradio could not open the page: instead,
// nothing is stored.
for (const name of ['localStorage', 'sessionStorage']) {
  try {
    window[name].getItem('');
  } catch {
    const value = { length: 0, key: () => null, getItem: () => null, setItem() {}, removeItem() {} };
    Object.defineProperty(window, name, { value });
  }
}

// Stores what is typed at every keystroke: a reload may come before gradio gets the text.
(() => {
  const name = box => [...(box?.classList ?? [])].find(word => word.startsWith('draft/'));
  const keep = (name, text) => {
    try {
      localStorage.setItem(STORED + name, text);
    } catch {} // if the browser has no room or forbids it, the page works without drafts
  };
  const kept = name => {
    try {
      return localStorage.getItem(STORED + name);
    } catch {
      return null;
    }
  };
  document.addEventListener('input', event => {
    const found = name(event.target.closest?.('[class*="draft/"]'));
    if (found && 'value' in event.target) keep(found, event.target.value);
  });
  window.keepDraft = keep;
  window.keptDrafts = (names, texts) => texts.map((text, index) => kept(names[index]) ?? text);
})();
