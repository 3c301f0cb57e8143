/* Three small things that JupyterLab leaves out.

Alternative text: the kernel sends a figure's alternative text beside the picture, as metadata of
the output; it is stored in the notebook, and web pages made from it have it. JupyterLab alone draws
the picture without it, so that a screen reader finds nothing there.

Tabs: a lesson and its exercises are files of one name in two folders. JupyterLab shows the name;
for exercises, we show the folder too.

Opening: JupyterLab writes what the kernel says of its language, the version of Python included, into
each notebook that it opens. The file is then changed, for git too, although nobody did anything. Of
the language our notebooks hold the name alone; a kernel of that language has nothing to add.

This is written as JupyterLab loads it, a module federation container of one module, so that there
is nothing to build: `init` hands us the libraries that JupyterLab shares, `get` hands back the
plugins. Installed by `shared-data` in pyproject.toml; tested in tests/test_browser.py.
*/
(() => {
  const NAME = "fine-tuning-from-scratch";
  let libraries;

  /* The one version of a library that this JupyterLab runs. */
  const library = async (name) => {
    const [shared] = Object.values(libraries[name]);
    return (await shared.get())();
  };

  const alternativeText = async () => {
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

  /* By a style: JupyterLab takes another text on a tab for a wish to rename the file. */
  const tabs = {
    id: `${NAME}:tabs`,
    description: "Shows the folder of an exercise in its tab.",
    autoStart: true,
    activate: () => {
      const style = document.createElement("style");
      style.textContent = `
        .lm-TabBar-tab[title*="Path: exercises/"] .lm-TabBar-tabLabel::before {
          content: "exercises/";
        }`;
      document.head.append(style);
    },
  };

  const opening = async () => {
    const { INotebookTracker } = await library("@jupyterlab/notebook");
    const leaveLanguage = (_, { model }) => {
      const write = model.setMetadata.bind(model);
      model.setMetadata = (key, value) => {
        const known = model.getMetadata(key)?.name;
        if (key !== "language_info" || known !== value?.name) write(key, value);
      };
    };
    return {
      id: `${NAME}:opening`,
      description: "Leaves a notebook unchanged that is only opened.",
      autoStart: true,
      requires: [INotebookTracker],
      activate: (app, tracker) => tracker.widgetAdded.connect(leaveLanguage),
    };
  };

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB[NAME] = {
    init: (shared) => {
      libraries = shared;
    },
    get: async () => {
      const plugins = [await alternativeText(), tabs, await opening()];
      return () => ({ __esModule: true, default: plugins });
    },
  };
})();
