// Opens a picture that was saved here, or a file of a face and edits, when it is dropped anywhere on
// the page, except on a widget that takes uploads itself.
(() => {
  const opens = file => /\.(png|safetensors)$/i.test(file.name);
  const ownPlace = event => event.target.closest?.('.block')?.querySelector('input[type=file]');
  const wanted = event => [...(event.dataTransfer?.types ?? [])].includes('Files') && !ownPlace(event);
  document.addEventListener('dragover', event => wanted(event) && event.preventDefault());
  document.addEventListener('drop', event => {
    if (!wanted(event)) return;
    event.preventDefault(); // otherwise the browser would leave the page for the picture
    const file = [...event.dataTransfer.files].find(opens);
    const button = document.getElementById('load');
    const input = button?.parentElement?.querySelector('input[type=file]');
    if (!file || !input) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });
})();
