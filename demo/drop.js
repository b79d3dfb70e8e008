// Opens a picture that was saved here, or a file of a face and edits, when it is dropped anywhere on
// the page, except on a widget that takes uploads itself. Of other files it says what can be dropped.
(() => {
  const opens = file => /\.(png|safetensors)$/i.test(file.name);
  const ownPlace = event => event.target.closest?.('.block')?.querySelector('input[type=file]');
  const wanted = event => [...(event.dataTransfer?.types ?? [])].includes('Files') && !ownPlace(event);
  const refuse = name => {
    window.droppedFile = name;
    document.getElementById('dropped')?.click();
  };
  document.addEventListener('dragover', event => wanted(event) && event.preventDefault());
  document.addEventListener('drop', event => {
    if (!wanted(event)) return;
    event.preventDefault(); // otherwise the browser would leave the page for the picture
    const dropped = [...event.dataTransfer.files];
    const file = dropped.find(opens);
    if (!file) return refuse(dropped[0]?.name ?? '');
    const button = document.getElementById('load');
    const input = button?.parentElement?.querySelector('input[type=file]');
    if (!input) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });
})();
