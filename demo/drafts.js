// Keeps what is typed at the very keystroke: a reload may come before gradio hears of it.
(() => {
  const name = box => [...(box?.classList ?? [])].find(word => word.startsWith('draft/'));
  const keep = (name, text) => {
    try {
      localStorage.setItem(STORED + name, text);
    } catch {} // where a browser has no room or forbids it, the page works without
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
