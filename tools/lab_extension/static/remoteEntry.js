/* Alternative text for figures in JupyterLab.

The kernel sends a figure's alternative text beside the picture, as metadata of its output; it is
stored in the notebook, and web pages made from it have it. JupyterLab alone draws the picture
without it, so that a screen reader finds nothing there. This plugin puts it on.

It is written as JupyterLab loads it, a module federation container of one module, so that there
is nothing to build: `init` hands us the libraries that JupyterLab shares, `get` hands back the
plugin. Installed by `shared-data` in pyproject.toml; tested in tests/test_browser.py.
*/
(() => {
  const NAME = "fine-tuning-from-scratch";
  let libraries;

  /* The one version of a library that this JupyterLab runs. */
  const library = async (name) => {
    const [shared] = Object.values(libraries[name]);
    return (await shared.get())();
  };

  const makePlugin = async () => {
    const { IRenderMimeRegistry, RenderedImage, imageRendererFactory } = await library(
      "@jupyterlab/rendermime",
    );

    class DescribedImage extends RenderedImage {
      async render(model) {
        await super.render(model);
        const alt = model.metadata[this.mimeType]?.alt;
        if (alt) this.node.querySelector("img").alt = alt;
      }
    }

    return {
      id: `${NAME}:alternative-text`,
      description: "Puts a figure's alternative text on its picture.",
      autoStart: true,
      requires: [IRenderMimeRegistry],
      activate: (app, registry) =>
        registry.addFactory({
          ...imageRendererFactory,
          createRenderer: (options) => new DescribedImage(options),
        }),
    };
  };

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB[NAME] = {
    init: (shared) => {
      libraries = shared;
    },
    get: async () => {
      const plugin = await makePlugin();
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
