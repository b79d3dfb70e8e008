// Arrow keys move the divider between before and after, which by itself only hears the pointer.
() => {
  const pictures = document.getElementById('pictures');
  const divider = () => pictures.querySelector('[data-testid=slider]');
  const frame = () => pictures.querySelector('.wrap').getBoundingClientRect();
  const position = () => new DOMMatrix(getComputedStyle(divider()).transform).m41;
  const describe = () => {
    const percent = divider() ? Math.round((100 * position()) / frame().width) : 50;
    pictures.setAttribute('aria-valuenow', percent);
  };

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
    setTimeout(describe); // once the divider is there
  });
}
