"""Exported pipelines in a browser: the JavaScript library, the page without a server, and tf.js.

`library/` holds plain modules that a page imports, and `page/` is such a page.
`stylegan_hub.browser.export` writes the files that they read.
"""
