"""Exported pipelines in a browser: the JavaScript library, the page without a server, and tf.js.

`library/` are plain modules that a page imports, and `page/` is such a page. What they read is made
by `stylegan_hub.browser.export`.
"""
