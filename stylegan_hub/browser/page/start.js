// Starts the page, and says what to do if one of its scripts is missing or too new for the browser.
import('./page.js').catch(error => {
  document.querySelector('#status').textContent = `The page cannot start (${error.message}). Check ` +
    'your connection and load the page again; if that does not help, use a newer browser.';
});
